"""Leaderboards as a static site: one page of boards, one per submission, everything also as JSON.

Pages need no server, no script and nothing from elsewhere. The same boards give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment
from markupsafe import Markup

from afbench.core import UsageError
from afbench.files import commit_if_changed, json_bytes
from afbench.plans.headline import ALL, headline_figures
from afbench.storage.manifests import SAME_F1

from .html_pages import content_policy, inline_file, page_environment
from .plots import PlotLine, Point, f1_panel, interval_bar

_NAMES = {
    "clean": "originals",
    "fgsm": "FGSM",
    "bim": "BIM",
    "pgd": "PGD",
    "mifgsm": "MI-FGSM",
    "pgn": "PGN",
    "cw": "C&W",
    "noise": "random noise",
}


def render_site(boards: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw every page of what ``afbench.scoring.boards.build_boards`` returns; by file name, ``index.html`` last.

    All texts are escaped; only https addresses become links.
    """
    environment = _environment()
    style, script = (inline_file(name) for name in ("style.css", "table.js"))
    common = {
        "style": style,
        "script": script,
        "policy": content_policy(style, script),
        "draws": boards["draws"],
    }
    files = {}
    for submission in boards["submissions"]:
        template = environment.get_template("submission.html.j2")
        page = template.render(**common, submission=_submission(submission))
        files[str(submission["page"])] = page.encode()
    files["leaderboard.json"] = json_bytes(boards)
    index = environment.get_template("index.html.j2")
    board_pages = [_board(board, number) for number, board in enumerate(boards["boards"])]
    files["index.html"] = index.render(**common, boards=board_pages).encode()
    return files


def write_site(files: Mapping[str, bytes], out: Path) -> None:
    """Commit each file whole, in order, so that no link of the index ever leads nowhere; touch nothing else.

    Raises:
        UsageError: if ``out`` is a file.
        AfbenchError: if it cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out '{out}' is a file; give a folder")
    for name, data in files.items():
        commit_if_changed(out / name, data)


def _environment() -> Environment:
    environment = page_environment()
    environment.filters |= {
        "attack": attack_name,
        "extra": extra_text,
        "params": params_text,
        "people": _people,
        "ranking": _ranking,
        "short": lambda warning: str(warning).split(", first ")[0],
        "strength": lambda value: f"{value:.4g}",
        "undefended": undefended_f1,
    }
    environment.tests["https"] = is_https
    return environment


def is_https(url: str) -> bool:
    """Return whether an address may become a link: https, with a host, no user in it, nothing invisible."""
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
    except ValueError:
        return False
    return (
        url.startswith("https://")
        and bool(host)
        and user is None
        and all("!" <= letter <= "~" for letter in url)
    )


def attack_name(attack: str) -> str:
    """Return what people call an attack."""
    return _NAMES.get(attack, attack)


def extra_text(value: str | bool) -> str:
    """Return extra training data as text; empty for none."""
    return {True: "yes", False: ""}[value] if isinstance(value, bool) else value


def params_text(params: Mapping[str, Any]) -> str:
    """Write parameters in one line, in order of names."""
    return ", ".join(f"{name} {value}" for name, value in sorted(params.items()))


def undefended_f1(figures: Mapping[str, Any]) -> float | None:
    """Return F1 of the undefended localizer on the same images."""
    if figures["f1"] is None or figures["delta_f1"] is None:
        return None
    return float(figures["f1"] - figures["delta_f1"])


def _people(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} others"


def _board(board: Mapping[str, Any], number: int) -> dict[str, Any]:
    tables = []
    for count, table in enumerate(board["tables"]):
        rows = [*table["ranked"], *table["baselines"]]
        highest = [row["robustness"]["rp"] or 0.0 for row in rows]
        highest += [row["robustness"]["rp_ci"][1] for row in rows if row["robustness"]["rp_ci"]]
        end = max([100.0, *highest])
        tables.append(
            {
                **table,
                "ident": f"board-{number}-{count}",
                "ranked": [_row(row, table["ranked"], end) for row in table["ranked"]],
                "baselines": [{**row, "bar": _bar(row, end)} for row in table["baselines"]],
            }
        )
    return {**board, "ident": f"dataset-{number}", "tables": tables}


def _row(row: Mapping[str, Any], ranked_rows: Sequence[Mapping[str, Any]], end: float) -> dict[str, Any]:
    rank = row["rank"]
    groups = sorted({ranked_row["rank"] for ranked_row in ranked_rows})
    return {
        **row,
        "tied": sum(ranked_row["rank"] == rank for ranked_row in ranked_rows) > 1,
        "band": groups.index(rank) % 2,
        "bar": _bar(row, end),
        "seen": [attack_name(attack) for attack in row["seen"]],
        "extra_data": extra_text(row["defence"]["extra_data"]),
        "params": params_text(row["defence"]["params"]),
        "defence": row["defence"]["type"],
        # there is nothing more to know: its RP is that of an attack which knows all
        "undefended": row["defence"]["type"] == "none" and _scores_as_undefended(row["robustness"]),
    }


def _scores_as_undefended(figures: Mapping[str, Any]) -> bool:
    return figures["delta_f1"] is not None and abs(figures["delta_f1"]) <= SAME_F1


def _bar(row: Mapping[str, Any], end: float) -> Markup:
    figures = row["robustness"]
    if figures["rp"] is None:
        return Markup("")
    return Markup(interval_bar(figures["rp"], *(figures["rp_ci"] or (None, None)), end=end))


def _submission(submission: Mapping[str, Any]) -> dict[str, Any]:
    parts = [_part(part, f"part-{number}") for number, part in enumerate(submission["localizers"])]
    return {**submission, "standing": " ".join(map(_standing, submission["localizers"])), "localizers": parts}


def _standing(part: Mapping[str, Any]) -> str:
    if part["rank"] is None:
        return f"Not ranked for localizer {part['localizer']}: {part['why']}."
    figures = headline_figures(part["aggregates"])
    rp = "-" if figures["rp"] is None else f"{figures['rp']:.1f}"
    sentence = f"Rank {part['rank']} of {part['ranked']} for localizer {part['localizer']}, RP {rp} {_ranking(part['ranked_by'])}."
    if part["chance"]["beaten"]:
        return sentence
    return f"{sentence} Its F1 under attack is not shown to be above that of a mask of ones ({_f1(part['chance']['f1'])})."


def _ranking(ranked_by: str) -> str:
    return "over all attacks" if ranked_by == ALL else f"under {attack_name(ranked_by)}"


def _part(part: Mapping[str, Any], ident: str) -> dict[str, Any]:
    aggregates = part["aggregates"]
    attacks = [
        (attack_name(name), row, row["seen_in_training"])
        for name, row in aggregates["per_attack"].items()
        if name != "clean"
    ]
    if "clean" in aggregates["per_attack"]:
        attacks.insert(0, ("Originals", aggregates["per_attack"]["clean"], False))
    attacks += [
        ("All attacks", aggregates["micro"], False),
        ("Worst case per image", aggregates["worst_case"], False),
    ]
    sources = {
        **aggregates["per_source"],
        "All images": aggregates["micro"],
        "Mean of sources": aggregates["macro"],
    }
    return {
        **part,
        "ident": ident,
        "per_attack": attacks,
        "per_source": [(name, row, False) for name, row in sources.items()],
        "plots": [_plot(curve, f"{ident}-plot-{number}") for number, curve in enumerate(part["curves"])],
    }


def _plot(curve: Mapping[str, Any], ident: str) -> dict[str, Any]:
    """Plot one attack: behind the defence with intervals, and undefended."""
    steps, points = curve["strength"] == "steps", curve["points"]
    scale = 1 if steps else 255
    scaled_points = [{**point, "x": scale * point["strength"]} for point in points]
    bare = [
        Point(point["x"], point["undefended"]) for point in scaled_points if point["undefended"] is not None
    ]
    defended = [
        Point(point["x"], point["f1"], *(point["f1_ci"] or (None, None)))
        for point in scaled_points
        if point["f1"] is not None
    ]
    title, x_label = attack_name(curve["attack"]), "steps" if steps else "phi in 255ths"
    first, last = scaled_points[0], scaled_points[-1]
    figures = [
        f"at {point['x']:.4g} {_f1(point['f1'])}, undefended {_f1(point['undefended'])}"
        for point in scaled_points
    ]
    return {
        "ident": ident,
        "title": title,
        "x_label": x_label,
        "points": scaled_points,
        "svg": Markup(
            f1_panel(
                [PlotLine("undefended", "bare", bare), PlotLine("defended", "defended", defended)],
                ident=ident,
                title=f"F1 under {title} against {x_label}",
                description=f"F1 from {first['x']:.4g} to {last['x']:.4g}: {'; '.join(figures)}.",
                x_label=x_label,
                x_ticks=[point["x"] for point in scaled_points],
            )
        ),
    }


def _f1(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
