"""afbench: anti-forensics benchmarks for forgery localization."""

import builtins
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

# without list, which would hide Python's own behind `from afbench import *`
__all__ = [
    "AfbenchError",
    "PartialError",
    "UsageError",
    "__version__",
    "as_attack",
    "as_defence",
    "as_localizer",
    "attack",
    "check_attack",
    "check_localizer",
    "compare",
    "evaluate",
    "export",
    "generate",
    "index",
    "inspect",
    "leaderboard",
    "load",
    "load_localizer",
    "plan",
    "predict",
    "preview",
    "push",
    "report",
    "reproduce",
    "restore",
    "results",
    "score",
    "stats",
    "train",
    "verify",
    "weights",
]

if TYPE_CHECKING:
    from afbench.api import train_functions as train
    from afbench.api import weights_functions as weights
    from afbench.api.attack_checking import check_attack
    from afbench.api.checking import stats, verify
    from afbench.api.evaluating import evaluate
    from afbench.api.generating import generate, plan
    from afbench.api.indexing import index
    from afbench.api.inspecting import inspect, preview, reproduce
    from afbench.api.listing import list  # noqa: F401
    from afbench.api.one_image import attack
    from afbench.api.publishing import push
    from afbench.api.ranking import compare, leaderboard
    from afbench.api.reporting import report
    from afbench.api.restoring import restore
    from afbench.api.submitting import export, predict, score
    from afbench.core import AfbenchError, PartialError, UsageError
    from afbench.defences.custom_defence import as_defence
    from afbench.localizers import load_localizer
    from afbench.localizers.conformance import check_localizer
    from afbench.localizers.custom import as_localizer
    from afbench.plans.own_attack import as_attack
    from afbench.reading.load_pairs import load
    from afbench.reading.result_table import results

_HOMES = {
    "AfbenchError": "afbench.core",
    "PartialError": "afbench.core",
    "UsageError": "afbench.core",
    "as_attack": "afbench.plans.own_attack",
    "as_defence": "afbench.defences.custom_defence",
    "as_localizer": "afbench.localizers.custom",
    "attack": "afbench.api.one_image",
    "check_attack": "afbench.api.attack_checking",
    "check_localizer": "afbench.localizers.conformance",
    "compare": "afbench.api.ranking",
    "evaluate": "afbench.api.evaluating",
    "export": "afbench.api.submitting",
    "generate": "afbench.api.generating",
    "index": "afbench.api.indexing",
    "inspect": "afbench.api.inspecting",
    "leaderboard": "afbench.api.ranking",
    "list": "afbench.api.listing",
    "load": "afbench.reading.load_pairs",
    "load_localizer": "afbench.localizers",
    "plan": "afbench.api.generating",
    "predict": "afbench.api.submitting",
    "preview": "afbench.api.inspecting",
    "push": "afbench.api.publishing",
    "report": "afbench.api.reporting",
    "reproduce": "afbench.api.inspecting",
    "restore": "afbench.api.restoring",
    "results": "afbench.reading.result_table",
    "score": "afbench.api.submitting",
    "stats": "afbench.api.checking",
    "verify": "afbench.api.checking",
}
_MODULES = {"train": "afbench.api.train_functions", "weights": "afbench.api.weights_functions"}


def __dir__() -> builtins.list[str]:
    """List the names of the package, also those that are imported on first use."""
    return sorted({*globals(), *__all__, *_HOMES})


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``afbench --help`` does not wait for torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(_MODULES[name])
    raise AttributeError(f"module 'afbench' has no attribute '{name}'")
