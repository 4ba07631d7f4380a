"""``afbench.list``: what this version knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afbench.argument_types import checks_arguments
from afbench.defences import list_defences
from afbench.defences.post_names import list_steps
from afbench.localizers.load import list_localizers
from afbench.plans import ATTACKS, list_plans
from afbench.resources import resource_json

from .keywords import require_choice

if TYPE_CHECKING:
    import pandas as pd

KINDS: Sequence[str] = ("all", "attacks", "localizers", "sources", "defences", "posting", "plans")

_BUILT_IN = {
    "demo": "120 fixed forgeries on free photographs, embedded",
    "synthetic": "forgeries without end from --seed: procedural scenes and free photographs, 128x128",
    "folder": "your own: folder:PATH with PATH/images and PATH/masks, paired by stem; NAME=folder:PATH for several",
    "list": "your own: list:FILE, a text or JSON list of images and masks",
    "hf": "your own: hf:PATH?image=COLUMN&mask=COLUMN, Parquet files or a folder of Dataset.save_to_disk",
}


@dataclass(frozen=True)
class Listing:
    """What there is: ``entries`` are summaries by kind and name."""

    entries: Mapping[str, Mapping[str, str]]

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per entry: ``kind``, ``name``, ``summary``."""
        import pandas as pd

        rows = [
            (kind, name, summary)
            for kind, summaries in self.entries.items()
            for name, summary in summaries.items()
        ]
        return pd.DataFrame(rows, columns=["kind", "name", "summary"])


@checks_arguments
def list(what: str = "all") -> Listing:
    """List the attacks, localizers, sources, defences, steps of posting and plans this version knows.

    Args:
        what: ``attacks``, ``localizers``, ``sources``, ``defences``, ``posting``, ``plans``, or ``all`` of them.
    Returns:
        A ``Listing``: ``entries``; ``to_pandas()`` has one row per entry.
    Raises:
        UsageError: if ``what`` is none of these.
    """
    require_choice("what", what, KINDS)
    entries = {
        "attacks": {
            attack.asked_as or name: f"{attack.summary} (by {attack.sweeps}; {attack.source})"
            for name, attack in ATTACKS.items()
        }
        | {"MODULE:FUNCTION[:NAME=VALUE...]": "your own; see `afbench check-attack --help`"},
        "localizers": list_localizers(),
        "sources": {
            **_BUILT_IN,
            **{
                name: f"{row['title']}: {name}:PATH, your own copy ({row['where']})"
                for name, row in resource_json("sources").items()
            },
        },
        "defences": list_defences(),
        "posting": list_steps(),
        "plans": list_plans(),
    }
    return Listing(entries if what == "all" else {what: entries[what]})
