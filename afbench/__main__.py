"""``python -m afbench``."""

from afbench.cli import main

main()
