"""Write the text of a dataset card below its YAML: tables, and what depends on the sources."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from afbench.plans import ATTACKS
from afbench.plans.attack_spec import BUILD
from afbench.resources import resource_json, resource_path

from .config_manifest import ConfigManifest
from .manifests import (
    AUTHENTIC,
    ORIGINALS,
    PROMISES,
    count_rows,
    excluded_samples,
    promised_levels,
    shard_paths,
    splits_of,
    stored_format,
)
from .rights import UNCLEAR, pixel_rights
from .summary import rp_mark

Configs = Mapping[str, ConfigManifest]

_FIGURES = (
    "config",
    "source",
    "images",
    "F1 original",
    "F1 attacked",
    "RP %",
    "F1 all-ones",
    "PSNR dB",
    "SSIM",
    "max level",
)

_STRONG = (
    "The rows of `strong` say how robust the localizer is: of each image they take the worst of several attacks. The other "
    "attacks stand beside it."
)
_WEAK = (
    "! F1 on the originals is below that of masks that call every pixel forged: the localizer finds nothing there, and RP says "
    "nothing of the attack."
)


_BLOCK = re.compile(r"<!-- afbench:(parquet|hdf5) -->\n(.*?)<!-- afbench:end -->\n", re.DOTALL)
"""What the card says for shards of one format only."""


def card_text(configs: Configs, default: str) -> str:
    """Fill in DATASET_CARD.md; ``default`` is the config its example loads."""
    split = next(iter(configs[default].splits), "demo")
    text = resource_path("DATASET_CARD.md").read_text(encoding="utf-8")
    text = _BLOCK.sub(lambda block: block[2] if block[1] == stored_format(configs) else "", text)
    for marker, filled in {
        "notice": _notice(configs),
        "example": f'"{default}", split="{split}"',
        "split": f'"{split}"',
        "config": f'"{default}"',
        "shard": next(iter(shard_paths(configs[default], split)), ""),
        "contents": _contents(configs),
        "table": figures_table(configs),
        "made": _made(configs),
        "sources": _sources(configs),
        "excluded": _excluded(configs),
    }.items():
        text = text.replace(
            f"<!-- afbench:{marker} -->\n\n" if not filled else f"<!-- afbench:{marker} -->", filled
        )
    return text


def figures_table(configs: Configs) -> str:
    """Draw a Markdown table with one row per attacked config and source."""
    rows = []
    for name, manifest in configs.items():
        for source, split in manifest.splits.items():
            if split.summary is not None:
                label = name + " (untrained)" * manifest.provenance["localizer"]["untrained"]
                rows.append([label, source, *_cells(split.summary)])
    table = _table(_FIGURES, rows, words=2)
    has_strong = any(manifest.provenance.get("attack") == "strong" for manifest in configs.values())
    is_weak = any(row[5].endswith("!") for row in rows)
    return "\n\n".join([table, *[_STRONG] * has_strong, *[_WEAK] * is_weak])


def _cells(summary: Mapping[str, Any]) -> list[str]:
    digits_by_figure = {"f1_clean": 3, "f1_adv": 3, "rp": 1, "f1_all_ones": 3, "psnr": 1, "ssim": 4}
    figures = {key: _figure(summary[key], digits) for key, digits in digits_by_figure.items()}
    mark = rp_mark(summary["f1_clean"], summary["f1_all_ones"])
    figures["rp"] = "-" if mark == "-" else figures["rp"] + mark
    return [str(summary["n"]), *figures.values(), str(summary["linf"])]


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int) -> str:
    """Draw a Markdown table: the first columns hold words, the others numbers, aligned to the right."""
    rule = ["---"] * words + ["--:"] * (len(head) - words)
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|"]
    # a bar in what others wrote would end its cell
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)])


def _notice(configs: Configs) -> str:
    """Write the warnings that stand above everything else."""
    rights = pixel_rights(configs)
    notices = []
    if rights.forbidden:
        notices.append(
            f"> **Do not pass this on.** It holds images of {_terms(rights.forbidden)}: their terms forbid sharing "
            "them, and an attacked image is a copy of its original. What may be shared are the changes alone: `afbench export --to hdf5`."
        )
    if rights.unclear:
        notices.append(
            f"> **Ask before you pass this on.** It holds images of {_terms(rights.unclear)}: nobody has said plainly that they may be shared."
        )
    return "\n>\n".join(notices)


def _terms(sources: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({terms})" for name, terms in sources.items())


def _contents(configs: Configs) -> str:
    attacked = {name: manifest for name, manifest in configs.items() if name not in ORIGINALS}
    originals = ", ".join(
        f"{count_rows(configs[config])} in `{config}`" for config in ORIGINALS if config in configs
    )
    images = sum(count_rows(manifest) for manifest in attacked.values())
    return f"{images} attacked images in {len(attacked)} configs, and their originals: {originals}."


def _made(configs: Configs) -> str:
    """Draw two tables, of localizers and of attacks, and say what holds for whoever makes the images again."""
    promises: set[str] = set()
    localizers: dict[tuple[str, ...], None] = {}
    attacks: dict[tuple[str, str, str], int] = {}
    for manifest in (manifest for name, manifest in configs.items() if name not in ORIGINALS):
        provenance = manifest.provenance
        localizer = {"threshold": "-", "weights_sha256": "-", "architecture": "-", **provenance["localizer"]}
        localizer["architecture"] = (
            f"{localizer['architecture']}{' (untrained)' * bool(localizer.get('untrained'))}"
        )
        keys = ("name", "architecture", "weights_sha256", "threshold")
        row = (
            *(str(localizer[key]) for key in keys),
            *(str(provenance.get(key, "-")) for key in ("attack_at", "precision")),
        )
        levels = promised_levels(manifest)
        promises.update(levels)
        localizers.setdefault((*row, ", ".join(levels) or "-"))
        params = ", ".join(f"{key} {value}" for key, value in provenance.get("params", {}).items()) or "-"
        key = (provenance["attack"], params, _origin_of(provenance))
        attacks[key] = attacks.get(key, 0) + 1
    if not attacks:
        return "Nothing in it is attacked."
    first = (
        *("localizer", "network", "sha256 of its weights", "threshold", "attacked at size", "precision"),
        *(("made again",) if promises else ()),
    )
    second = ("attack", "parameters", "published in", "configs")
    return "\n\n".join(
        (
            _table(first, (row[: len(first)] for row in localizers), words=len(first)),
            *_localizer_notes((row[1], row[5]) for row in localizers),
            *([f"Made again: {_promise_text(promises)}."] if promises else ()),
            _table(second, ([*key, str(count)] for key, count in attacks.items()), words=3),
        )
    )


def _origin_of(provenance: Mapping[str, Any]) -> str:
    """Say where an attack was published; of its maker's own, which function builds it."""
    name = provenance["attack"]
    return (
        ATTACKS[name].source if name in ATTACKS else f"the maker's own {provenance['params'].get(BUILD, '')}"
    )


def _localizer_notes(networks: Iterable[tuple[str, str]]) -> list[str]:
    """Collect what must be known of every result on some networks, e.g. that one does not see whole images.

    Args:
        networks: architecture and precision of each.
    """
    published = resource_json("localizers")
    notes: dict[str, None] = {}
    for architecture, precision in networks:
        row = published.get(architecture.removesuffix(" (untrained)"), {})
        if "note" in row:
            notes[row["note"]] = None
        if "fp32_only" in row and precision not in ("fp32", "-"):
            notes[f"In {precision} {row['title']} is another network: {row['fp32_only']}."] = None
    return list(notes)


def _promise_text(levels: Iterable[str]) -> str:
    return "; ".join(f"{level}, {PROMISES.get(level, 'unknown')}" for level in sorted(levels))


def _sources(configs: Configs) -> str:
    published_sources = resource_json("sources")
    rows = [
        [
            f"`{name}`" + " (authentic)" * (config == AUTHENTIC),
            f"{sum(shard.rows for shard in split.shards)} of {split.samples}",
            str(split.terms),
            split.redistribution or UNCLEAR,
            str(published_sources.get(split.layout or name, {}).get("citation", "-")),
        ]
        for config in ORIGINALS
        for name, split in splits_of(configs, config).items()
    ]
    head = ("source", "images, of samples asked for", "terms", "sharing", "cite")
    return _table(head, rows, words=len(head))


def _excluded(configs: Configs) -> str:
    """Count the missing samples by reason; a sample that several configs lack counts once."""
    missing = {
        (sample["sample_id"], sample["reason"])
        for manifest in configs.values()
        for sample in excluded_samples(manifest)
    }
    counts = Counter(reason for _, reason in missing)
    return "\n".join(f"- {reason}: {count}" for reason, count in sorted(counts.items())) or "None."
