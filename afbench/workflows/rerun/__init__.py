"""Make stored rows and shards again: to compare, to repair, to score anew."""
