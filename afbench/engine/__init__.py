"""Run attacks over blocks of samples."""

from .block import FAILURES, OUT_OF_MEMORY, AttackedRow, Failure, run_settings, start_settings
from .measure import Judged, judge, localize
from .precision import PRECISIONS, compute_precision

__all__ = [
    "FAILURES",
    "OUT_OF_MEMORY",
    "PRECISIONS",
    "AttackedRow",
    "Failure",
    "Judged",
    "compute_precision",
    "judge",
    "localize",
    "run_settings",
    "start_settings",
]
