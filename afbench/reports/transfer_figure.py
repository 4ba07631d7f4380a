"""Draw attackers and victims as heat maps of RP: a panel per attack, of several sources all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from .drawing import PNG, Drawing, encode, new_figure
from .evaluation import attack_title
from .transfer_tables import transfer_csv, transfer_rows, victims_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]
_LEFT_OUT = ("clean", "authentic")
_PANELS_A_ROW = 3
_DARK = 45
"""RP in percent below which the map is dark and letters on it are white."""


def transfer_figure(records: Sequence[Record]) -> bytes:
    """Draw the records of ``transfer_records`` as a PNG; letters say what a cell is, so colour alone says nothing."""
    return encode(lambda theme: _draw(records), [PNG])[PNG]


def has_attacks(records: Sequence[Record]) -> bool:
    """Return whether there is anything to draw."""
    return bool(records) and bool(_of_last_source(records))


def transfer_drawing(records: Sequence[Record]) -> Drawing:
    """Return the same figure for a report."""
    records_to_draw = _of_last_source(records)
    source = records_to_draw[-1]["source"]
    return Drawing(
        f"transfer-{source}",
        f"Attacks on one localizer, judged by others, on {source}",
        "RP in percent of the judging localizer's own F1 on the originals, and its mean F1 in brackets, over images and settings of each "
        "attack. White-box: the attack used the gradients of the very weights that judge.",
        lambda theme: _draw(records),
        transfer_csv(records_to_draw),
    )


def _of_last_source(records: Sequence[Record]) -> list[Record]:
    """Return the records that are drawn: of several sources ``all``, which comes last."""
    source = records[-1]["source"]
    return [record for record in records if record["source"] == source and record["attack"] not in _LEFT_OUT]


def _draw(records: Sequence[Record]) -> Figure:
    records_to_draw = _of_last_source(records)
    source = records_to_draw[-1]["source"]
    attacks = list(dict.fromkeys(record["attack"] for record in records_to_draw))
    victims = victims_of(records)
    attackers = list(dict.fromkeys(record["attacker"] for record in records_to_draw))
    columns = min(_PANELS_A_ROW, len(attacks))
    rows = ceil(len(attacks) / columns)
    width, height = columns * (1.6 + 1.3 * len(victims)), rows * (1.3 + 0.75 * len(attackers)) + 0.6
    drawing = new_figure(width, height)
    panels = drawing.subplots(rows, columns, squeeze=False)
    for panel in panels.flat[len(attacks) :]:
        panel.set_axis_off()
    colours = None
    for panel, attack in zip(panels.flat, attacks, strict=False):
        of_attack = [record for record in records_to_draw if record["attack"] == attack]
        colours = _draw_panel(panel, of_attack, attackers, victims)
        panel.set_title(attack_title(attack))
    drawing.supxlabel("judged by")
    drawing.supylabel("attacked")
    # short, since a figure of two victims is narrow; the axes say who attacks and who judges
    drawing.suptitle(f"RP in % (F1) on {source}")
    drawing.colorbar(colours, ax=list(panels.flat), label="RP in %", fraction=0.04)
    return drawing


def _draw_panel(
    panel: Axes, records: Sequence[Record], attackers: Sequence[str], victims: Sequence[str]
) -> Any:
    cells = {
        (row.attacker, victim): record
        for row, by_victim in transfer_rows(records).items()
        for victim, record in by_victim.items()
    }
    values = [
        [_number(cells.get((attacker, victim), {}).get("rp")) for victim in victims] for attacker in attackers
    ]
    panel.grid(False)
    colours = panel.imshow(values, vmin=0, vmax=100, cmap="viridis", aspect="auto")
    panel.set_xticks(range(len(victims)), victims, rotation=20, ha="right")
    panel.set_yticks(range(len(attackers)), attackers)
    for (attacker, victim), record in cells.items():
        rp, f1 = record["rp"], record["f1"]
        figures = "-" if f1 is None else f"{'-' if rp is None else f'{rp:.0f}'} ({f1:.2f})"
        panel.text(
            victims.index(victim),
            attackers.index(attacker),
            f"{figures}\n{record['access'] or 'control'}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if (rp or 0) < _DARK else "black",
        )
    return colours


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
