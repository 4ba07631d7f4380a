"""Aligned text tables, in one piece or folded to the width of a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

WIDTH = 80
"""Columns of a terminal that nobody widened."""

Row = Sequence[str]


def text_table(
    head: Row,
    body: Sequence[Row],
    *,
    labels: int = 2,
    column_groups: Sequence[int] = (),
    width: int | None = None,
) -> str:
    """Align columns: labels to the left, numbers to the right.

    A table wider than ``width`` is folded, and loses nothing: what is the same in every row is said once below, the other
    columns stand in several tables one below the other, and labels that leave no room for numbers get lines of their own.

    Args:
        head: what stands above each column.
        body: the rows.
        labels: how many columns lead as labels.
        column_groups: sizes of the groups of columns behind the labels that are not torn apart; each for itself if omitted.
        width: most letters of a line; None for one table, however wide.
    """
    groups = _groups(labels, len(head), column_groups)
    lines = _aligned(head, body, labels, [column for group in groups for column in group])
    if width is None or max(map(len, lines)) <= width:
        return "\n".join(lines)
    constant = [column for column in range(len(head)) if _is_constant(head, body, column)]
    if set(range(labels)) <= set(constant):
        constant.remove(0)
    names = [column for column in range(labels) if column not in constant]
    groups = [[column for column in group if column not in constant] for group in groups]
    folded = _folded([list(head), *map(list, body)], names, [group for group in groups if group], width)
    constants = ", ".join(f"{head[column]} {body[0][column]}" for column in constant)
    return "\n".join([*folded, *([fold_line(f"in every row: {constants}", width)] if constants else [])])


def fold_line(line: str, width: int | None, indent: str = "  ") -> str:
    """Break a sentence, and if need be a word, to lines of ``width`` letters; the later ones are indented."""
    if width is None or len(line) <= width:
        return line
    return "\n".join(wrap(line, width, subsequent_indent=indent, break_on_hyphens=False))


def _groups(labels: int, columns: int, column_groups: Sequence[int]) -> list[list[int]]:
    sizes = column_groups or [1] * (columns - labels)
    starts = [labels + sum(sizes[:number]) for number in range(len(sizes))]
    return [list(range(start, start + size)) for start, size in zip(starts, sizes, strict=True)]


def _is_constant(head: Row, body: Sequence[Row], column: int) -> bool:
    """Return whether the column can be said in one line: the same in all rows, under a title that occurs once."""
    return len(body) > 1 and len({row[column] for row in body}) == 1 and head.count(head[column]) == 1


def _aligned(head: Row, body: Sequence[Row], labels: int, columns: Sequence[int]) -> list[str]:
    order = [*range(labels), *columns]
    rows = [[row[column] for column in order] for row in (head, *body)]
    widths = [max(len(row[position]) for row in rows) for position in range(len(order))]
    lines = [
        "  ".join(
            cell.ljust(width) if position < labels else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [line.rstrip() for line in lines]


def _folded(rows: list[list[str]], names: list[int], groups: list[list[int]], width: int) -> list[str]:
    """Draw tables one below the other; or, where labels are long, a line of labels above the numbers of every row."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    label_width = sum(widths[column] + 2 for column in names)
    broadest = max((_breadth(group, widths) for group in groups), default=0)
    if label_width + broadest <= width:
        panels = _panels(groups, widths, width - label_width) or [[]]
        tables = []
        for panel in panels:
            cells = [[row[column] for column in (*names, *panel)] for row in rows]
            tables.append(
                _aligned(cells[0], cells[1:], len(names), range(len(names), len(names) + len(panel)))
            )
        return [line for number, table in enumerate(tables) for line in ([""] * (number > 0) + table)]
    panels = _panels(groups, widths, width - 2)
    lines = []
    for row in rows:
        lines.append(fold_line("  ".join(row[column] for column in names), width, ""))
        for panel in panels:
            numbers = "  ".join(row[column].rjust(widths[column]) for column in panel)
            lines.append(fold_line(f"  {numbers}".rstrip(), width))
    return [line for text in lines for line in text.split("\n")]


def _panels(groups: list[list[int]], widths: list[int], width: int) -> list[list[int]]:
    """Put as many groups side by side as fit into ``width``; a broader one stands alone."""
    panels: list[list[int]] = []
    for group in groups:
        if panels and _breadth([*panels[-1], *group], widths) <= width:
            panels[-1] += group
        else:
            panels.append(list(group))
    return panels


def _breadth(columns: Sequence[int], widths: Sequence[int]) -> int:
    return sum(widths[column] for column in columns) + 2 * (len(columns) - 1)
