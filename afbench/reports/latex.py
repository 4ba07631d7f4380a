"""Tables for a paper, with booktabs."""

from __future__ import annotations

from collections.abc import Sequence

_SPECIAL = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def escape(text: str) -> str:
    """Escape text so that LaTeX prints it."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def booktabs(
    spec: str, head: Sequence[str], blocks: Sequence[Sequence[Sequence[str]]], comments: Sequence[str]
) -> str:
    """Write a ``tabular``: comments, lines of the head as they are, and blocks of rows, a rule above each.

    Args:
        spec: of the columns, e.g. ``llrr``.
        head: lines of LaTeX.
        blocks: rows of cells, already escaped.
        comments: what stands above the table and is not printed.
    """
    lines = [f"% {' '.join(comment.split())}" for comment in comments]
    lines += [f"\\begin{{tabular}}{{{spec}}}", "\\toprule", *head]
    for block in blocks:
        lines.append("\\midrule")
        lines += [" & ".join(row) + " \\\\" for row in block]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def number(cell: str) -> str:
    """Write a figure; what was not measured is a dash, as a sign is a minus."""
    if cell == "-":
        return "--"
    return f"${cell}$" if cell[:1] in "+-" else cell
