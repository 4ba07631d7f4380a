"""Attack the samples of a plan, store what comes out shard by shard, resume, and finish the manifests."""
