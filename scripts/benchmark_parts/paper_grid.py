"""(b) The paper's whole grid on the same images: one setting at a time, as libraries are used, and shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from afbench.core import Localizer, Setting
from afbench.engine.grid import AttackBatch, images_at_once
from afbench.plans import read_plan, settings_by_group

from .clock import Clock, Paired, middle, paired
from .pictures import a_localizer, as_batch, attack, pictures
from .table import Table, verdict

TARGETS = {"without PGN": 2.3, "with PGN": 1.3}
HEAD = ("part", "gradients alone", "shared", "s per image alone", "shared s", "times faster", "target")


def paper_settings() -> Sequence[Setting]:
    """Return the 20 settings of the ANSM paper's Table III."""
    return read_plan("ansm-table3").blocks[0].settings


def alone(localizer: Localizer, images: AttackBatch, group: Sequence[Setting], batch_size: int) -> int:
    """Run every setting by itself, in batches as large as the shared ones; return the gradients it took."""
    return sum(
        attack(localizer, part, [setting], batch_size)[1]
        for setting in group
        for part in _parts(images, batch_size)
    )


def shared(localizer: Localizer, images: AttackBatch, group: Sequence[Setting], batch_size: int) -> int:
    """Run a sharing group as afbench does; return the gradients it took."""
    at_once = images_at_once(group, batch_size)
    return sum(attack(localizer, part, list(group), batch_size)[1] for part in _parts(images, at_once))


def table(
    *, images: int, side: int, repeats: int, clock: Clock, settings: Sequence[Setting] | None = None
) -> Table:
    """Measure sharing groups one by one, then their sums, which the targets are set for."""
    localizer = a_localizer("reference", clock.device)
    batch = as_batch(pictures(images, side), clock.device)
    batch_size = images
    groups = settings_by_group(settings or paper_settings())
    counts: dict[str, tuple[int, int]] = {}
    times: dict[str, Paired] = {}
    for name, group in groups.items():
        gradient_counts: dict[str, int] = {}

        def run_shared(
            group: Sequence[Setting] = group, gradient_counts: dict[str, int] = gradient_counts
        ) -> None:
            gradient_counts["shared"] = shared(localizer, batch, group, batch_size)

        def run_alone(
            group: Sequence[Setting] = group, gradient_counts: dict[str, int] = gradient_counts
        ) -> None:
            gradient_counts["alone"] = alone(localizer, batch, group, batch_size)

        # the shortest group warms up for all
        times[name] = paired(run_shared, run_alone, clock=clock, repeats=repeats, warm=not times)
        counts[name] = gradient_counts["alone"] // images, gradient_counts["shared"] // images
    rows = [_row(name, counts[name], times[name], images) for name in groups]
    rows += [
        _row(label, *_summed([name for name in groups if name != skipped], counts, times), images)
        for label, skipped in (("without PGN", "pgn"), ("with PGN", None))
    ]
    note = (
        f"{images} images of {side}x{side} on `reference`, batches of {batch_size} images on both sides; {repeats} interleaved runs. "
        "Targets: 2.3 times without PGN, 1.3 times with it (the counts allow 843/335 = 2.52 and 2043/1535 = 1.33)."
    )
    return Table("The whole grid of the paper for one image", HEAD, rows, note)


def _summed(
    names: Sequence[str], counts: Mapping[str, tuple[int, int]], times: Mapping[str, Paired]
) -> tuple[tuple[int, int], Paired]:
    group_times = [times[name] for name in names]
    total = group_times[0]
    for seconds in group_times[1:]:
        total = total + seconds
    return (sum(counts[name][0] for name in names), sum(counts[name][1] for name in names)), total


def _row(name: str, counts: tuple[int, int], times: Paired, images: int) -> list[str]:
    target = TARGETS.get(name)
    return [
        name,
        str(counts[0]),
        str(counts[1]),
        middle([seconds / images for seconds in times.peer]),
        middle([seconds / images for seconds in times.afbench]),
        middle(times.ratios),
        "" if target is None else f"{target}: {verdict(median(times.ratios) >= target)}",
    ]


def _parts(batch: AttackBatch, at_once: int) -> list[AttackBatch]:
    return [
        AttackBatch(
            batch.sample_ids[first : first + at_once],
            batch.image[first : first + at_once],
            batch.mask[first : first + at_once],
        )
        for first in range(0, len(batch.image), at_once)
    ]
