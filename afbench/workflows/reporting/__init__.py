"""Draw benchmarks, and publish boards and the paper's tables."""
