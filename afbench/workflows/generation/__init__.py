"""Attack the samples of a plan, store the results shard by shard, resume, and finish the manifests."""
