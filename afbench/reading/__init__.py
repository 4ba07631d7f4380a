"""What users import: open a benchmark and pair every attacked image with its original. See ``load``."""

from .load import load

__all__ = ["load"]
