"""Tell before any work what a plan will take."""
