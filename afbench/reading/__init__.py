"""What users import: open a benchmark and pair every attacked image with its original. See ``load``."""

from .load_pairs import load

__all__ = ["load"]
