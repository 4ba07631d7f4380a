"""Tell what an interrupted command leaves behind and what is lost, for every command."""

from __future__ import annotations

from types import MappingProxyType

from afbench.core import Stopped

_NOTHING_WRITTEN = "nothing was written; run the same command again"
_AT_THE_END = "results are written at the end: what was counted is lost, and the same command begins again"
_FILE_BY_FILE = (
    "the files that are whole are kept, the one in the making is lost; the same command goes on from there"
)

LEAVES = MappingProxyType(
    {
        "generate": "no shard was in the making; the same command begins again, and keeps what was there before",
        "plan": _NOTHING_WRITTEN,
        "list": _NOTHING_WRITTEN,
        "index": "what was read of the files is kept in the cache; the same command reads the others",
        "verify": "checks change nothing, and files that --repair put back are kept; run the same command again",
        "inspect": _NOTHING_WRITTEN,
        "reproduce": _NOTHING_WRITTEN,
        "stats": _NOTHING_WRITTEN,
        "preview": _NOTHING_WRITTEN,
        "export": _FILE_BY_FILE,
        "restore": _FILE_BY_FILE,
        "push": "commits that the Hub has taken stay there; the same command sends what is missing",
        "evaluate": _AT_THE_END,
        "train": "the state saved last (every 200 steps, and after every epoch) is kept, the steps since then are lost; the same "
        "command goes on from there",
        "predict": "masks that are written are kept; the same command makes the others",
        "score": _AT_THE_END,
        "compare": _NOTHING_WRITTEN,
        "leaderboard": "pages may be missing or old; run the same command again",
        "report": "figures and pages may be missing or old; run the same command again",
        "check-attack": _NOTHING_WRITTEN,
        "weights": "weights are registered whole or not at all; run the same command again",
    }
)
"""By command: what to print where the command itself has no figures."""


def after_stop(error: BaseException | None, command: str | None) -> str:
    """Return the last line of an interrupted command."""
    if isinstance(error, Stopped):
        return f"stopped; {error}"
    consequence = LEAVES.get(command or "")
    return f"stopped; {consequence}" if consequence else "stopped"
