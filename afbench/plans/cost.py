"""Estimate what a plan takes from the cost of one gradient on each localizer: arithmetic, hours, memory. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from afbench.core import Setting
from afbench.cores import usable_cores
from afbench.resources import resource_json

from .estimate import expected_source, naive_gradients, queries, settings_by_group, shared_gradients
from .runplan import RunPlan

PEAK_TERAFLOPS: Mapping[str, float] = MappingProxyType({"fp32": 67.0, "tf32": 494.7, "bf16": 989.5})
"""Dense peaks of an H100 or H200."""
SHARE_OF_PEAK = (0.1, 0.5)
"""Convolutional networks reach a share of the peak between these two: how wide an uncalibrated figure is."""
GPU_GIGAFLOPS = 1000 * PEAK_TERAFLOPS["fp32"] * (SHARE_OF_PEAK[0] * SHARE_OF_PEAK[1]) ** 0.5
"""Gigaflops per second: the middle of what an H100 or H200 reaches in fp32."""
CPU_GIGAFLOPS = 30.0
"""Gigaflops per second of one core, about."""
KEEP_SECONDS = 70e-3 / 512**2
"""Seconds of one core to encode a pixel as lossless WebP, decode it again and compare it (docs/benchmarks)."""
CPU_PIXELS_AT_ONCE = 16 * 128 * 128
GPU_KIB_AT_ONCE = 12 * 2**20
"""What a batch may hold unless ``--batch-size`` says otherwise. The engine has the same rule; a test compares them."""
PROCESS_BYTES = 800 * 10**6
"""Memory of Python, torch and the readers before any work, and of freed blocks between used ones."""
BYTES_PER_READ_PIXEL = 9
"""Image and mask of a shard, of the next one, which is read meanwhile, and the first shard's predicted masks."""
BYTES_PER_MADE_PIXEL = 12
"""For each setting of a sharing group: image, mask and encoded image, while the previous group is being written."""
SHARD_SIZE = 64
SHARD_PIXELS = 125_000_000
"""The most a shard may hold, unless it is one image. The storage has the same rule; a test compares them."""


@dataclass(frozen=True, kw_only=True)
class LocalizerCost:
    """Operations and memory, counted on one square image of ``side``; ``resizes``: every image is resized to that side.

    ``kib_per_pixel`` is the memory of one gradient that batches on a GPU are sized by; ``kib_measured`` is the measured
    memory where it differs.
    """

    side: int
    resizes: bool
    gigaflop_forward: float
    gigaflop_gradient: float
    kib_per_pixel: float
    parameters: int
    kib_measured: float | None = None

    def pixels(self, image_pixels: int) -> int:
        """Return how many pixels the network sees of an image of ``image_pixels``."""
        return self.side**2 if self.resizes else image_pixels

    def gigaflops(self, image_pixels: int, *, gradients: int, forwards: int) -> float:
        """Count the gigaflops of so many gradients and forward passes on one image."""
        counted = gradients * self.gigaflop_gradient + forwards * self.gigaflop_forward
        return counted * self.pixels(image_pixels) / self.side**2


REFERENCE = LocalizerCost(
    side=256,
    resizes=False,
    gigaflop_forward=1.2,
    gigaflop_gradient=2.4,
    kib_per_pixel=4.0,
    parameters=590_129,
    kib_measured=1.0,
)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The remaining work of one localizer on one source.

    ``images`` is None where nobody has opened the folder. ``gradients_*`` and ``forwards`` are per image; forward passes
    score the original and each attacked image, and serve attacks without gradients. ``together`` is how many settings
    the largest sharing group has.
    """

    localizer: str
    source: str
    images: int | None
    pixels: int
    settings: int
    together: int
    gradients_shared: int
    gradients_naive: int
    forwards: int

    @property
    def gradients(self) -> int | None:
        return None if self.images is None else self.images * self.gradients_shared

    @property
    def encoded_images(self) -> int:
        """How many images to encode for each original: itself, and one for each setting."""
        return self.settings + 1 if self.settings else 0


def localizer_cost(name: str) -> LocalizerCost | None:
    """Read the published cost of a localizer; None for a user's own."""
    if name == "reference":
        return REFERENCE
    row = resource_json("localizers").get(name)
    return LocalizerCost(**row["cost"], parameters=row["parameters"]) if row else None


def workloads(
    plan: RunPlan,
    counts: Mapping[str, int] | None = None,
    pixels: Mapping[str, int] | None = None,
    done: Iterable[tuple[str, str, Setting]] = (),
) -> list[Workload]:
    """List the remaining work of every localizer and source of a plan.

    Args:
        plan: localizers, sources and settings.
        counts: samples of the sources that were opened, as ``estimate`` takes them.
        pixels: typical pixels of an image of these sources, where they were counted.
        done: localizer, source and setting of what exists already.
    """
    finished_keys = {(localizer, source, _key(setting)) for localizer, source, setting in done}
    result = []
    for block in plan.blocks:
        for name in block.localizers:
            for source in block.sources:
                remaining_settings = [
                    setting
                    for setting in block.settings
                    if (name, source.name, _key(setting)) not in finished_keys
                ]
                size = expected_source(source, plan.limit, counts or {}, pixels)
                # nobody has opened the folder: a usual size, so that the memory can still be estimated
                images, pixels_per_image = size or (None, 512 * 512)
                result.append(
                    Workload(
                        localizer=name,
                        source=source.name,
                        images=images,
                        pixels=pixels_per_image,
                        settings=len(remaining_settings),
                        together=max(map(len, settings_by_group(remaining_settings).values()), default=0),
                        gradients_shared=shared_gradients(remaining_settings),
                        gradients_naive=sum(naive_gradients(setting) for setting in remaining_settings),
                        forwards=1 + sum(1 + queries(setting) for setting in remaining_settings)
                        if remaining_settings
                        else 0,
                    )
                )
    return result


def _key(setting: Setting) -> str:
    return f"{setting.attack}-{setting.label}"


def gigaflops(workload: Workload) -> float | None:
    """Sum the gigaflops of all gradients and forward passes of a workload; None where a cost or a count is unknown."""
    if not workload.settings:
        return 0.0
    cost = localizer_cost(workload.localizer)
    if cost is None or workload.images is None:
        return None
    per_image = cost.gigaflops(
        workload.pixels, gradients=workload.gradients_shared, forwards=workload.forwards
    )
    return per_image * workload.images


def gpu_hours(total_gigaflops: float) -> dict[str, tuple[float, float]]:
    """Convert gigaflops to hours of one H100 or H200, least and most, by precision."""
    low, high = SHARE_OF_PEAK
    seconds = {precision: total_gigaflops / (1000 * peak) for precision, peak in PEAK_TERAFLOPS.items()}
    return {
        precision: (at_peak / high / 3600, at_peak / low / 3600) for precision, at_peak in seconds.items()
    }


def suggested_batch(cost: LocalizerCost | None, image_pixels: int, device: str) -> int:
    """Compute the images per batch that a run takes where ``--batch-size`` is left out."""
    network_pixels = cost.pixels(image_pixels) if cost else image_pixels
    if device.startswith("cuda"):
        return max(1, int(GPU_KIB_AT_ONCE / (cost.kib_per_pixel if cost else 4.0)) // network_pixels)
    return max(1, CPU_PIXELS_AT_ONCE // network_pixels)


def batch_bytes(cost: LocalizerCost | None, image_pixels: int, device: str) -> int:
    """Estimate the memory one batch takes on its device: the weights, and what its gradients need."""
    network_pixels = cost.pixels(image_pixels) if cost else image_pixels
    kib_per_pixel = (cost.kib_measured or cost.kib_per_pixel) if cost else 4.0
    weights = 4 * cost.parameters if cost else 0
    return weights + int(suggested_batch(cost, image_pixels, device) * network_pixels * kib_per_pixel * 1024)


def host_bytes(workload: Workload) -> int:
    """Estimate the main memory that a run takes besides its batch: the process, shards of samples, attacked images."""
    shard_images = min(SHARD_SIZE, max(1, SHARD_PIXELS // workload.pixels))
    pixels_in_memory = min(shard_images, workload.images or shard_images) * workload.pixels
    return PROCESS_BYTES + pixels_in_memory * (
        BYTES_PER_READ_PIXEL + workload.together * BYTES_PER_MADE_PIXEL
    )


@dataclass(frozen=True)
class Speed:
    """Times of one localizer measured on one machine, on images of ``pixels``.

    ``gradient_seconds`` and ``score_seconds`` are per image and pass, ``keep_seconds`` per stored image (quantised,
    encoded, decoded, compared), ``start_seconds`` once. ``untrained``: measured with random weights, which cost the same.
    """

    localizer: str
    pixels: int
    gradient_seconds: float
    score_seconds: float
    keep_seconds: float
    start_seconds: float
    gradients_timed: int
    untrained: bool


@dataclass(frozen=True)
class Seconds:
    """Seconds of a workload: in the localizer, and in encoding and comparing images."""

    network: float
    keep: float

    @property
    def total(self) -> float:
        return self.network + self.keep


def measured_seconds(workload: Workload, speed: Speed) -> Seconds | None:
    """Compute the time of a workload at a measured speed; a network that does not resize takes longer on larger images."""
    if workload.images is None:
        return None
    cost = localizer_cost(workload.localizer)
    pixel_ratio = workload.pixels / speed.pixels
    network = workload.gradients_shared * speed.gradient_seconds + workload.forwards * speed.score_seconds
    # a network that resizes sees the same number of pixels whatever the image
    if cost is None or not cost.resizes:
        network *= pixel_ratio
    return Seconds(
        workload.images * network,
        workload.images * workload.encoded_images * speed.keep_seconds * pixel_ratio,
    )


def expected_seconds(workload: Workload, device: str) -> Seconds | None:
    """Estimate the time of a workload from published costs; None where nothing is published.

    On a CPU, or in the middle of what an H100 or H200 reaches in fp32; images are encoded on one core.
    """
    total_gigaflops = gigaflops(workload)
    if total_gigaflops is None or workload.images is None:
        return None
    rate = GPU_GIGAFLOPS if device.startswith("cuda") else CPU_GIGAFLOPS * usable_cores()
    return Seconds(
        total_gigaflops / rate, workload.images * workload.encoded_images * workload.pixels * KEEP_SECONDS
    )
