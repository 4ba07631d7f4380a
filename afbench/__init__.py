"""afbench: anti-forensics benchmarks for forgery localization."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_localizer"]

if TYPE_CHECKING:
    from afbench.localizers import load_localizer


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``afbench --help`` does not wait for torch."""
    if name == "load_localizer":
        from afbench.localizers import load_localizer

        return load_localizer
    raise AttributeError(f"module 'afbench' has no attribute '{name}'")
