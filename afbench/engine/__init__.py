"""Run attacks over blocks of samples."""

from .block import AttackedRow, Failure, run_settings
from .measure import Judged, judge, localize
from .precision import PRECISIONS, compute_precision

__all__ = [
    "PRECISIONS",
    "AttackedRow",
    "Failure",
    "Judged",
    "compute_precision",
    "judge",
    "localize",
    "run_settings",
]
