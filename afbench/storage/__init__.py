"""What a run writes, and how it is read back and checked. Nothing here needs torch."""
