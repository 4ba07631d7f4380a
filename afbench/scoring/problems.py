"""The problems of a submission: stable codes, exact counts, the first of each by name."""

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
MAX_NAMED = 20
"""How many problems of one code are named; all are counted."""
_SLACK = 2000


class Refusal(Exception):
    """Part of a submission is not accepted: the problem's code and a message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, order=True)
class SubmissionProblem:
    """One problem: its location in the submission and a message; both printable."""

    code: str
    location: str
    message: str


@dataclass
class Problems:
    """Problems in any order; only the first of each code are kept by name, so memory is bounded."""

    counts: Counter[str] = field(default_factory=Counter)
    first_problems: dict[str, list[SubmissionProblem]] = field(default_factory=dict)

    def add(self, code: str, location: str, message: str) -> None:
        """Note one problem; names come from a stranger, so control characters are escaped.

        Raises:
            KeyboardInterrupt: if the command was stopped, which may be all that is wrong.
        """
        raise_if_stopped()
        self.counts[code] += 1
        problems = self.first_problems.setdefault(code, [])
        problems.append(SubmissionProblem(code, printable(location), printable(message)))
        # sorting after each addition would take quadratic time
        if len(problems) > _SLACK:
            problems[:] = sorted(problems)[:MAX_NAMED]

    def extend(self, code: str, items: Iterable[tuple[str, str]]) -> None:
        for location, message in items:
            self.add(code, location, message)

    def merge(self, additional: Problems) -> None:
        """Add the problems of another collection; counts stay exact."""
        self.counts.update(additional.counts)
        for code, problems in additional.first_problems.items():
            self.first_problems.setdefault(code, []).extend(problems)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def as_json(self) -> list[dict[str, Any]]:
        """Return one entry per code: the exact count, and the first 20 by name."""
        return [
            {
                "code": code,
                "title": TITLES[code],
                "count": self.counts[code],
                "first": [
                    {"where": problem.location, "what": problem.message}
                    for problem in sorted(self.first_problems[code])[:MAX_NAMED]
                ],
            }
            for code in sorted(self.counts)
        ]

    def lines(self) -> list[str]:
        """Return the same as lines for people."""
        lines = []
        for entry in self.as_json():
            lines.append(f"{entry['code']} {entry['title']}: {entry['count']}")
            lines += [f"  {problem['where']}: {problem['what']}" for problem in entry["first"]]
            if entry["count"] > MAX_NAMED:
                lines.append(f"  ... and {entry['count'] - MAX_NAMED} more")
        return lines


class InvalidSubmission(AfbenchError):
    """A submission with problems; nothing was written."""

    def __init__(self, submission: str, problems: Problems) -> None:
        counts = ", ".join(f"{code} ({count})" for code, count in sorted(problems.counts.items()))
        super().__init__(f"submission '{printable(submission)}' is invalid: {counts}")
        self.problems = problems

    def as_json(self) -> dict[str, Any]:
        """Return the verdict for programs."""
        return {"valid": False, "problems": self.problems.as_json()}


def printable(text: str, longest: int = 300) -> str:
    """Make a stranger's text safe for a terminal and for UTF-8: escape other characters, cut long texts."""
    safe = text if text.isprintable() else ascii(text)[1:-1]
    return safe if len(safe) <= longest else safe[: longest - 3] + "..."
