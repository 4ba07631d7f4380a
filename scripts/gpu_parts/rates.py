"""Gradients per second of every localizer, as a share of what matrix products reach on the same GPU."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

import torch
from benchmark_parts.clock import Clock
from benchmark_parts.gradients import gigaflops, official_side, random_images, time_gradient
from benchmark_parts.pictures import a_localizer

from afbench.core import Localizer, UsageError
from afbench.engine import compute_precision
from afbench.engine.memory import fits
from afbench.localizers.compiled import compile_forward
from afbench.localizers.load import REFERENCE, known_localizers
from afbench.safe_convolutions import safe_convolutions

from .report import Report, Scale

TARGET_SHARE = 60.0
"""Percent of the measured matrix rate, for MVSS-Net at 512 in TF32 and bf16."""
TARGET_LOCALIZER = "mvss"
GROWTH = 1.05
"""A larger batch is tried while it is at least so much faster."""
HEAD = (
    "localizer",
    "side",
    "precision",
    "form",
    "batch",
    "gradients/s",
    "TFLOP/s",
    "% of matrix rate",
    "peak GiB",
    "target",
)


class Form(NamedTuple):
    """How a network runs."""

    compiled: bool = False
    channels_last: bool = True
    deterministic: bool = True

    def __str__(self) -> str:
        words = ["compiled" if self.compiled else "eager"]
        words += [] if self.channels_last else ["channels first"]
        words += [] if self.deterministic else ["not deterministic"]
        return ", ".join(words)


def matrix_rate(precision: str, scale: Scale) -> float:
    """Measure the FLOP per second of a large matrix product of random numbers, the median of several."""
    side = _matrix_side(scale)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=scale.device, dtype=dtype) for _ in range(2))
    clock = Clock(scale.device)
    with compute_precision(precision, scale.device):
        seconds = [clock(lambda: a @ b) for _ in range(6)][1:]
    return 2 * side**3 / median(seconds)


def copy_rate(scale: Scale) -> float:
    """Measure the bytes per second, read and written, of a copy within the device's memory."""
    block = torch.randn(_copied_mebibytes(scale) * 2**18, device=scale.device)
    copy = torch.empty_like(block)
    clock = Clock(scale.device)
    seconds = [clock(lambda: copy.copy_(block)) for _ in range(6)][1:]
    return 2 * block.nbytes / median(seconds)


def ceilings(report: Report, scale: Scale) -> None:
    """Measure what this device reaches where nothing but arithmetic, or nothing but memory, counts."""
    report.heading(
        "Ceilings",
        f"Products of matrices of {_matrix_side(scale)} rows and columns of random numbers; a copy of {_copied_mebibytes(scale)} MiB within the device, "
        "bytes read and written.",
    )
    rows = [[name, f"{matrix_rate(name, scale) / 1e12:.1f} TFLOP/s"] for name in scale.available_precisions]
    report.table(["what", "rate"], [*rows, ["copy", f"{copy_rate(scale) / 1e12:.2f} TB/s"]])


def gradient_rates(report: Report, scale: Scale) -> None:
    """Measure every localizer, eager; the embedded one also not deterministic, and the one with a target channels first, too."""
    all_names = ["reference"] if scale.tiny else known_localizers()
    names = sorted(scale.localizers or all_names, key=lambda name: name != TARGET_LOCALIZER)
    forms = {
        TARGET_LOCALIZER: [Form(), Form(channels_last=False), Form(deterministic=False)],
        REFERENCE: [Form(), Form(deterministic=False)],
    }
    cases = [(name, form) for name in names for form in forms.get(name, [Form()])]
    _rates(report, scale, "Gradients per second", cases)


def compiled_rates(report: Report, scale: Scale) -> None:
    """Measure networks under ``--compile``, which takes a minute for each to begin with."""
    names = scale.localizers or ([] if scale.tiny else [TARGET_LOCALIZER, "hdfnet"])
    _rates(report, scale, "Gradients per second, compiled", [(name, Form(compiled=True)) for name in names])


def _rates(report: Report, scale: Scale, title: str, cases: Sequence[tuple[str, Form]]) -> None:
    report.heading(
        title,
        f"Official sizes, random weights for published networks; medians of 5 after a warm-up; batches grow by 4 while that is {GROWTH} times as fast. "
        f"Arithmetic as counted by torch. Target for {TARGET_LOCALIZER} in TF32 and bf16: {TARGET_SHARE:.0f} % of the matrix rate.",
    )
    ceiling = {precision: matrix_rate(precision, scale) for precision in scale.available_precisions}
    report.table(HEAD, (row for name, form in cases for row in _localizer_rows(name, form, ceiling, scale)))


def _localizer_rows(name: str, form: Form, ceiling: dict[str, float], scale: Scale) -> Iterator[list[str]]:
    localizer = a_localizer(name, scale.device)
    if not form.channels_last:
        localizer.network.to(memory_format=torch.contiguous_format)  # type: ignore[attr-defined]
    try:
        if form.compiled:
            compile_forward(localizer)
        side = 64 if scale.tiny else official_side(localizer)
        _, arithmetic = gigaflops(localizer, random_images(1, side, scale.device))
        for precision, matrix_ceiling in ceiling.items():
            best = 0.0
            for batch in _batches(form, scale):
                rate = _rate(localizer, batch, side, precision, form, scale)
                if rate:
                    yield _row(name, side, precision, form, batch, rate, arithmetic, matrix_ceiling, scale)
                if rate < GROWTH * best:
                    break
                best = rate
    except Exception as error:  # whatever one network does is a line of the table
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        yield [name, "", "", str(form), "", reason, *[""] * (len(HEAD) - 6)]
        if form.deterministic and isinstance(error, UsageError):
            yield from _localizer_rows(name, form._replace(deterministic=False), ceiling, scale)
    finally:
        del localizer
        gc.collect()
        if scale.on_gpu:
            torch.cuda.empty_cache()


def _batches(form: Form, scale: Scale) -> Sequence[int]:
    """Return the batch sizes to try; a compiled network compiles again for its first."""
    if scale.tiny:
        return (1,)
    return (16,) if form.compiled else (1, 4, 16, 64)


def _rate(localizer: Localizer, batch: int, side: int, precision: str, form: Form, scale: Scale) -> float:
    """Measure gradients per second; return 0 where the batch does not fit."""
    seconds: list[float] = []

    def measure() -> None:
        image = random_images(batch, side, scale.device)
        with (
            compute_precision(precision, scale.device, deterministic=form.deterministic),
            safe_convolutions(localizer),
        ):
            seconds.extend(
                time_gradient(localizer, image, Clock(scale.device)) for _ in range(2 if scale.tiny else 6)
            )

    if scale.on_gpu:
        torch.cuda.reset_peak_memory_stats(scale.device)
    return batch / median(seconds[1:]) if fits(measure) else 0.0


def _row(
    name: str,
    side: int,
    precision: str,
    form: Form,
    batch: int,
    rate: float,
    arithmetic: float,
    ceiling: float,
    scale: Scale,
) -> list[str]:
    reached = rate * arithmetic * 1e9
    share = 100 * reached / ceiling
    peak = torch.cuda.max_memory_allocated(scale.device) / 2**30 if scale.on_gpu else float("nan")
    has_target = name == TARGET_LOCALIZER and precision != "fp32"
    return [
        name,
        str(side),
        precision,
        str(form),
        str(batch),
        f"{rate:.3g}",
        f"{reached / 1e12:.3g}",
        f"{share:.1f}",
        f"{peak:.2f}",
        ("reached" if share >= TARGET_SHARE else "below") if has_target else "",
    ]


def _matrix_side(scale: Scale) -> int:
    return 256 if scale.tiny else 8192


def _copied_mebibytes(scale: Scale) -> int:
    return 1 if scale.tiny else 1024
