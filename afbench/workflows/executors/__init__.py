"""Spread a plan over processes, Slurm jobs or Ray tasks."""
