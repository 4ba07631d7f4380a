"""What ``scripts/gpu_check`` runs, one section a module."""
