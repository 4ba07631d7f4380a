"""What can be wrong with a submission: stable codes, exact counts, the first of each by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from afbench.core import AfbenchError
from afbench.interrupts import raise_if_stopped

TITLES = {
    "AF001": "manifest.json does not follow its schema",
    "AF002": "made for another dataset",
    "AF003": "unknown localizer, config, sample or file",
    "AF004": "predictions are missing",
    "AF005": "a sample is there twice",
    "AF006": "another shape than the sample's",
    "AF007": "another mode or other values than a mask may have",
    "AF008": "cannot be decoded",
    "AF009": "NaN, infinite or outside [0, 1]",
    "AF010": "unsafe path, link or name",
    "AF011": "claims or unfolds to more than it may",
    "AF012": "arrays that need pickle",
    "AF013": "HDF5 is not accepted",
    "AF014": "files and files_sha256 differ",
    "AF015": "looks odd",
    "AF016": "content is on the board already",
    "AF017": "made with other weights",
}
NAMED = 20
"""How many problems of one code are named; all are counted."""
_SLACK = 2000


class Refused(Exception):
    """Something in a submission that is not accepted: its code, and what was found."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(f"{code}: {what}")
        self.code = code
        self.what = what


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong: where in the submission, and what; both printable."""

    code: str
    where: str
    what: str


@dataclass
class Problems:
    """Collects problems in any order; keeps the first of each code by name, so memory is bounded."""

    counts: Counter[str] = field(default_factory=Counter)
    kept: dict[str, list[Problem]] = field(default_factory=dict)

    def add(self, code: str, where: str, what: str) -> None:
        """Note one problem; names come from a stranger, so control characters are escaped.

        Raises:
            KeyboardInterrupt: if the command was stopped, which may be all that is wrong.
        """
        raise_if_stopped()
        self.counts[code] += 1
        kept = self.kept.setdefault(code, [])
        kept.append(Problem(code, printable(where), printable(what)))
        if len(kept) > _SLACK:
            kept[:] = sorted(kept)[:NAMED]

    def extend(self, code: str, found: Iterable[tuple[str, str]]) -> None:
        for where, what in found:
            self.add(code, where, what)

    def merge(self, others: Problems) -> None:
        """Take over what another collected; counts stay exact."""
        self.counts.update(others.counts)
        for code, found in others.kept.items():
            self.kept.setdefault(code, []).extend(found)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def as_json(self) -> list[dict[str, Any]]:
        """One entry per code: exact count, and the first 20 by name."""
        return [
            {
                "code": code,
                "title": TITLES[code],
                "count": self.counts[code],
                "first": [{"where": one.where, "what": one.what} for one in sorted(self.kept[code])[:NAMED]],
            }
            for code in sorted(self.counts)
        ]

    def lines(self) -> list[str]:
        """The same for people."""
        told = []
        for entry in self.as_json():
            told.append(f"{entry['code']} {entry['title']}: {entry['count']}")
            told += [f"  {one['where']}: {one['what']}" for one in entry["first"]]
            if entry["count"] > NAMED:
                told.append(f"  ... and {entry['count'] - NAMED} more")
        return told


class InvalidSubmission(AfbenchError):
    """A submission with problems; nothing was written."""

    def __init__(self, submission: str, problems: Problems) -> None:
        told = ", ".join(f"{code} ({count})" for code, count in sorted(problems.counts.items()))
        super().__init__(f"submission '{printable(submission)}' is invalid: {told}")
        self.problems = problems

    def as_json(self) -> dict[str, Any]:
        """The verdict for programs."""
        return {"valid": False, "problems": self.problems.as_json()}


def printable(text: str, longest: int = 300) -> str:
    """A stranger's text, safe for a terminal and for UTF-8: other characters escaped, cut where it is long."""
    safe = text if text.isprintable() else ascii(text)[1:-1]
    return safe if len(safe) <= longest else safe[: longest - 3] + "..."
