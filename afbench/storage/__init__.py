"""Write, read and check benchmarks. Nothing here needs torch."""
