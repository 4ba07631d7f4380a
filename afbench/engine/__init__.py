"""Run attacks over blocks of samples."""

from .block import FAILURES, OUT_OF_MEMORY, AttackedRow, Failure, run_settings, start_settings
from .measure import Judged, judge, judge_samples, localize
from .noise import noisy_images
from .originals import Originals, upload_originals
from .precision import PRECISIONS, compute_precision

__all__ = [
    "FAILURES",
    "OUT_OF_MEMORY",
    "PRECISIONS",
    "AttackedRow",
    "Failure",
    "Judged",
    "Originals",
    "compute_precision",
    "judge",
    "judge_samples",
    "localize",
    "noisy_images",
    "run_settings",
    "start_settings",
    "upload_originals",
]
