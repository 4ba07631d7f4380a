"""How busy whole attacks keep the GPU, what sharing saves against a plain loop, and whether encoding keeps up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from benchmark_parts import pipeline
from benchmark_parts.clock import Clock
from benchmark_parts.paper_grid import shared
from benchmark_parts.peers import with_torchattacks
from benchmark_parts.pictures import a_localizer, as_batch, attack, pictures
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from afbench.core import Localizer, Setting
from afbench.engine import compute_precision
from afbench.engine.grid import AttackBatch
from afbench.images import quantise
from afbench.losses import binary_cross_entropy
from afbench.plans import expand_attack, max_levels, settings_by_group
from afbench.safe_convolutions import safe_convolutions

from .report import Report, Scale

TARGET_BUSY = 95.0
TARGET_TIMES = 3.0
NEIGHBOURS = 4
"""PGN's, fewer than the paper's 20 on every side, so that a check takes minutes."""
OWN_ATTACKS = ("pgn", "cw")
"""Of the grid's attacks those that torchattacks lacks, or has for classes alone."""
STRENGTH = 0.02
"""Share of the loss by which two attacks may differ and still be called equally strong."""


def busy(report: Report, scale: Scale) -> None:
    """Measure the share of PGN's and C&W's time in which at least one kernel runs."""
    images, side, name = (1, 64, "reference") if scale.tiny else (16, 512, "mvss")
    precision = "tf32" if scale.on_gpu else "fp32"
    report.heading(
        "How busy attacks keep the device",
        f"{images} images of {side}x{side} on `{name}`, {precision}; time under at least one kernel, as torch's profiler recorded, of the time from the first "
        f"to the last. Target: {TARGET_BUSY:.0f} %.",
    )
    localizer, batch = a_localizer(name, scale.device), as_batch(pictures(images, side), scale.device)
    cases = {
        "pgn": list(expand_attack("pgn", phi=["1/255"], params={"steps": 2, "neighbours": NEIGHBOURS})),
        "cw": list(expand_attack("cw", steps=[2 if scale.tiny else 20])),
    }

    def rows() -> Iterator[Sequence[str]]:
        for label, settings in cases.items():
            with compute_precision(precision, scale.device):

                def run(settings: list[Setting] = settings) -> None:
                    attack(localizer, batch, settings, images)

                run()
                share = busy_percent(run, scale)
            yield [label, f"{share:.1f}", "reached" if share >= TARGET_BUSY else "below"]

    report.table(["attack", "% busy", "target"], rows())


def busy_percent(work: Callable[[], None], scale: Scale) -> float:
    """Measure the percent of the time from the first kernel to the end of the last in which at least one runs."""
    activity, kind = (
        (ProfilerActivity.CUDA, DeviceType.CUDA) if scale.on_gpu else (ProfilerActivity.CPU, DeviceType.CPU)
    )
    with profile(activities=[activity]) as recorded:
        Clock(scale.device)(work)
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in recorded.events() or ()
        if event.device_type == kind and event.time_range.end > event.time_range.start
    ]
    busy_time, total_time = covered_time(spans)
    return 100 * busy_time / total_time


def covered_time(spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Measure how much of a line its spans cover, overlaps counted once, and how long it is from first to last.

    Raises:
        ValueError: if there are no spans: then nothing was recorded.
    """
    if not spans:
        raise ValueError("the profiler recorded no kernel")
    total, reached = 0.0, min(start for start, _ in spans)
    first = reached
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total, reached - first


def grid(report: Report, scale: Scale) -> None:
    """Compare the paper's 20 settings, shared, with loops over images and settings with torchattacks."""
    # as many images as phi: then the passes of afbench are as large as those of the loop at once
    images, side, name = (1, 32, "reference") if scale.tiny else (3, 512, "mvss")
    precision = "tf32" if scale.on_gpu else "fp32"
    settings = _small_grid() if scale.tiny else _paper_grid()
    report.heading(
        "The paper's grid against a plain loop",
        f"{len(settings)} settings (PGN with {NEIGHBOURS} neighbours on all sides) on {images} images of {side}x{side} of `{name}`, {precision}, seconds per image. "
        "Loop: torchattacks 3.5.1 for FGSM, BIM, PGD and MI-FGSM; it has no PGN and its C&W takes no masks, so those two are ours, one setting at a time. "
        "afbench asks for kernels that give the same bytes again, the loop for any. By torch's defaults: the loop as it runs where nothing is set, weights channels first. "
        f"Target: a third of the time of the loop that takes image by image. Strength of torchattacks: mean cross-entropy that 8-bit images leave, loop and afbench, within {100 * STRENGTH:.0f} %.",
    )
    localizer, batch = a_localizer(name, scale.device), as_batch(pictures(images, side), scale.device)
    first = AttackBatch(batch.sample_ids[:1], batch.image[:1], batch.mask[:1])
    clock, totals = Clock(scale.device), [0.0, 0.0, 0.0]

    def loop_times(group: Sequence[Setting]) -> tuple[float, float]:
        """Measure seconds per image of the loop, image by image and all at once."""
        for part in (first, batch):
            _plain(localizer, part, _brief(group[0]))  # loads the library, and what its kernels need
        single = clock(lambda: _loop(localizer, first, group))
        return single, clock(lambda: _loop(localizer, batch, group)) / images

    def rows() -> Iterator[Sequence[str]]:
        for group in settings_by_group(settings).values():
            with compute_precision(precision, scale.device):
                for part in (first, batch):
                    attack(localizer, part, [_brief(group[0])], images)  # warms up kernels and memory
                afbench = clock(lambda group=group: shared(localizer, batch, group, images)) / images  # type: ignore[misc]
            # torchattacks' loss has no kernel that gives the same bytes again, and a user of it asks for none
            with compute_precision(precision, scale.device, deterministic=False):
                single, batched = loop_times(group)
            strength, default_cells = "", ["", ""]
            if group[-1].attack not in OWN_ATTACKS:
                with _channels_first(localizer):
                    default_cells = [f"{seconds:.3g}" for seconds in loop_times(group)]
                strength = _strength(localizer, batch, group[-1], precision, scale)
            for position, seconds in enumerate((single, batched, afbench)):
                totals[position] += seconds
            yield [
                _label(group),
                *(f"{seconds:.3g}" for seconds in (single, batched)),
                *default_cells,
                f"{afbench:.3g}",
                *_times(single, batched, afbench),
                strength,
            ]
        yield [
            "all",
            *(f"{seconds:.3g}" for seconds in totals[:2]),
            *["", ""],
            f"{totals[2]:.3g}",
            *_times(*totals),
            _met(totals[0] / totals[2]),
        ]

    head = [
        "attacks",
        "loop, image by image",
        f"loop, {images} at once",
        "by torch's defaults, image by image",
        f"by torch's defaults, {images} at once",
        "afbench",
        "times faster",
        "than at once",
        "strength, target",
    ]
    report.table(head, rows())


def _brief(setting: Setting) -> Setting:
    """Return a setting with one step: enough to warm up."""
    return replace(setting, steps=1)


@contextmanager
def _channels_first(localizer: Localizer) -> Iterator[None]:
    """Keep weights as torch makes them, where afbench has them channels last."""
    network: nn.Module = localizer.network  # type: ignore[attr-defined]
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    try:
        yield
    finally:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _paper_grid() -> list[Setting]:
    sign = [setting for name in ("fgsm", "bim", "mifgsm", "pgd") for setting in expand_attack(name)]
    return [*sign, *expand_attack("pgn", params={"neighbours": NEIGHBOURS}), *expand_attack("cw")]


def _small_grid() -> list[Setting]:
    return [
        *expand_attack("fgsm"),
        *expand_attack("pgn", phi=["1/255"], params={"steps": 1, "neighbours": 1}),
        *expand_attack("cw", steps=[1, 2]),
    ]


def _loop(localizer: Localizer, batch: AttackBatch, group: Sequence[Setting]) -> None:
    for setting in group:
        _plain(localizer, batch, setting)


def _plain(localizer: Localizer, batch: AttackBatch, setting: Setting) -> Tensor:
    """Run one setting as a user of libraries would."""
    if setting.attack in OWN_ATTACKS:
        return attack(localizer, batch, [setting], len(batch.image))[0]
    return with_torchattacks(localizer, batch, setting)()


def _strength(
    localizer: Localizer, batch: AttackBatch, setting: Setting, precision: str, scale: Scale
) -> str:
    """Compare the mean cross-entropy that a setting's 8-bit images leave, by torchattacks and by afbench."""
    with compute_precision(precision, scale.device, deterministic=False):
        images = _plain(localizer, batch, setting), attack(localizer, batch, [setting], len(batch.image))[0]
        with torch.no_grad(), safe_convolutions(localizer):
            plain, afbench = (
                float(binary_cross_entropy(localizer.logits(stored), batch.mask).mean())
                for stored in (_as_stored(attacked, batch, setting) for attacked in images)
            )
    verdict = "equal" if abs(plain - afbench) <= STRENGTH * abs(plain) else "DIFFERENT"
    return f"{plain:.4g}, {afbench:.4g}: {verdict}"


def _as_stored(attacked: Tensor, batch: AttackBatch, setting: Setting) -> Tensor:
    """Round images to 8 bits inside the ball, as they would be stored."""
    levels = quantise(attacked, batch.image, max_levels(setting.phi))
    return levels.permute(0, 3, 1, 2).to(batch.image) / 255


def _label(group: Sequence[Setting]) -> str:
    return ", ".join(dict.fromkeys(setting.attack for setting in group))


def _times(single: float, batched: float, afbench: float) -> tuple[str, str]:
    return f"{single / afbench:.2f}", f"{batched / afbench:.2f}"


def _met(times: float) -> str:
    return f"{TARGET_TIMES:.0f} times: {'reached' if times >= TARGET_TIMES else 'below'}"


def files(report: Report, scale: Scale) -> None:
    """Measure runs from PNG files to committed shards: whether decoding and encoding keep up with the device."""
    images, side, attacks = (1, 48, ("fgsm",)) if scale.tiny else (32, 512, ("fgsm", "bim", "cw"))
    table = pipeline.table(
        images=images, side=side, repeats=1, clock=Clock(scale.device), attacks=attacks, steps=(50,)
    )
    for line in table.markdown().splitlines():
        report.line(line)
    report.line()
