"""What ``scripts/benchmark`` measures, one table a module."""
