"""What a gradient costs on each localizer, and from that what a plan takes: arithmetic, hours, memory. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from afbench.core import Setting
from afbench.cores import usable_cores
from afbench.shipped import shipped_json

from .estimate import expected_source, naive_gradients, queries, settings_by_group, shared_gradients
from .runplan import RunPlan

PEAK_TERAFLOPS: Mapping[str, float] = MappingProxyType({"fp32": 67.0, "tf32": 494.7, "bf16": 989.5})
"""Dense peaks of an H100 or H200."""
SHARE_OF_PEAK = (0.1, 0.5)
"""Between these lies what convolutional networks are seen to reach: how wide an uncalibrated figure is."""
GPU_GIGAFLOPS = 1000 * PEAK_TERAFLOPS["fp32"] * (SHARE_OF_PEAK[0] * SHARE_OF_PEAK[1]) ** 0.5
"""A second, in the middle of what an H100 or H200 reaches in fp32."""
CPU_GIGAFLOPS = 30.0
"""Of one core a second, about."""
KEEP_SECONDS = 70e-3 / 512**2
"""Of one pixel on one core: encoded as lossless WebP, decoded again and compared with its original (docs/benchmarks)."""
CPU_PIXELS_AT_ONCE = 16 * 128 * 128
GPU_KIB_AT_ONCE = 12 * 2**20
"""What a launch may hold unless ``--batch-size`` says otherwise; the engine's own rule, which a test compares."""
PROCESS_BYTES = 800 * 10**6
"""Of Python, torch and the readers before anything is done, and freed memory that lies between what is used."""
BYTES_PER_READ_PIXEL = 9
"""Image and mask, of a shard and of the next one, which is read meanwhile; and what the localizer says of the first."""
BYTES_PER_MADE_PIXEL = 12
"""Of each setting of a sharing group: image, mask and encoded image, while the group before is being written."""
SHARD_SIZE = 64
SHARD_PIXELS = 125_000_000
"""Most of a shard, except of one that is one image; the storage's own rule, which a test compares."""


@dataclass(frozen=True)
class LocalizerCost:
    """Counted on one square image of ``side``; ``resizes`` says that every image is brought to that side.

    ``kib_per_pixel`` is the memory of one gradient that launches on a GPU are cut by, ``kib_measured`` what it takes where
    that is another.
    """

    side: int
    resizes: bool
    gigaflop_forward: float
    gigaflop_gradient: float
    kib_per_pixel: float
    parameters: int
    kib_measured: float | None = None

    def pixels(self, image_pixels: int) -> int:
        """Pixels the network sees of an image of so many."""
        return self.side**2 if self.resizes else image_pixels

    def gigaflops(self, image_pixels: int, *, gradients: int, forwards: int) -> float:
        """Of so many gradients and forward passes of one image."""
        counted = gradients * self.gigaflop_gradient + forwards * self.gigaflop_forward
        return counted * self.pixels(image_pixels) / self.side**2


REFERENCE = LocalizerCost(256, False, 1.2, 2.4, 4.0, 590_129, kib_measured=1.0)


@dataclass(frozen=True)
class Load:
    """One localizer on one source. ``images`` None: nobody has opened the folder. ``gradients_*`` are per image, ``forwards``
    too: what scores the original and each attacked image, and what attacks without gradients ask for. ``together`` is how
    many settings its largest sharing group has."""

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
    def kept(self) -> int:
        """Images to encode for each original: itself, and one for each setting."""
        return self.settings + 1 if self.settings else 0


def localizer_cost(name: str) -> LocalizerCost | None:
    """What is published of a localizer; None for a user's own."""
    if name == "reference":
        return REFERENCE
    row = shipped_json("localizers").get(name)
    return LocalizerCost(**row["cost"], parameters=row["parameters"]) if row else None


def loads(
    plan: RunPlan,
    counts: Mapping[str, int] | None = None,
    pixels: Mapping[str, int] | None = None,
    done: Iterable[tuple[str, str, Setting]] = (),
) -> list[Load]:
    """Every localizer and source of a plan with what is to be done there.

    Args:
        plan: what is asked for.
        counts: samples of the sources that were opened, as ``estimate`` takes them.
        pixels: typical ones of an image of these sources, where someone looked.
        done: localizer, source and setting of what is there already.
    """
    finished = {(localizer, source, _key(setting)) for localizer, source, setting in done}
    found = []
    for block in plan.blocks:
        for name in block.localizers:
            for source in block.sources:
                left = [one for one in block.settings if (name, source.name, _key(one)) not in finished]
                size = expected_source(source, plan.limit, counts or {}, pixels)
                images, each = size or (None, 512 * 512)
                found.append(
                    Load(
                        name,
                        source.name,
                        images,
                        each,
                        len(left),
                        max(map(len, settings_by_group(left).values()), default=0),
                        shared_gradients(left),
                        sum(naive_gradients(one) for one in left),
                        1 + sum(1 + queries(one) for one in left) if left else 0,
                    )
                )
    return found


def _key(setting: Setting) -> str:
    return f"{setting.attack}-{setting.label}"


def gigaflops(load: Load) -> float | None:
    """Of all gradients, and of the forward passes that score originals and attacked images."""
    if not load.settings:
        return 0.0
    cost = localizer_cost(load.localizer)
    if cost is None or load.images is None:
        return None
    once = cost.gigaflops(load.pixels, gradients=load.gradients_shared, forwards=load.forwards)
    return once * load.images


def gpu_hours(total_gigaflops: float) -> dict[str, tuple[float, float]]:
    """Hours of one H100 or H200, least and most, by precision."""
    low, high = SHARE_OF_PEAK
    seconds = {precision: total_gigaflops / (1000 * peak) for precision, peak in PEAK_TERAFLOPS.items()}
    return {precision: (one / high / 3600, one / low / 3600) for precision, one in seconds.items()}


def suggested_batch(cost: LocalizerCost | None, image_pixels: int, device: str) -> int:
    """Images per launch where ``--batch-size`` is left out."""
    seen = cost.pixels(image_pixels) if cost else image_pixels
    if device.startswith("cuda"):
        return max(1, int(GPU_KIB_AT_ONCE / (cost.kib_per_pixel if cost else 4.0)) // seen)
    return max(1, CPU_PIXELS_AT_ONCE // seen)


def launch_bytes(cost: LocalizerCost | None, image_pixels: int, device: str) -> int:
    """Memory one launch takes on its device: the weights, and the gradients in the making."""
    seen = cost.pixels(image_pixels) if cost else image_pixels
    each = (cost.kib_measured or cost.kib_per_pixel) if cost else 4.0
    weights = 4 * cost.parameters if cost else 0
    return weights + int(suggested_batch(cost, image_pixels, device) * seen * each * 1024)


def host_bytes(load: Load) -> int:
    """Main memory beside the launch: the process, shards of samples, and what was made of them."""
    shard = min(SHARD_SIZE, max(1, SHARD_PIXELS // load.pixels))
    held = min(shard, load.images or shard) * load.pixels
    return PROCESS_BYTES + held * (BYTES_PER_READ_PIXEL + load.together * BYTES_PER_MADE_PIXEL)


@dataclass(frozen=True)
class Speed:
    """What was measured of one localizer on one machine, on images of ``pixels``.

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
    """Of a load: in the localizer, and in keeping images."""

    network: float
    keep: float

    @property
    def total(self) -> float:
        return self.network + self.keep


def measured_seconds(load: Load, speed: Speed) -> Seconds | None:
    """What a load takes at a measured speed; a network that does not resize takes longer for larger images."""
    if load.images is None:
        return None
    cost = localizer_cost(load.localizer)
    grown = load.pixels / speed.pixels
    network = load.gradients_shared * speed.gradient_seconds + load.forwards * speed.score_seconds
    if cost is None or not cost.resizes:
        network *= grown
    return Seconds(load.images * network, load.images * load.kept * speed.keep_seconds * grown)


def expected_seconds(load: Load, device: str) -> Seconds | None:
    """The same from published counts, on a CPU or in the middle of what an H100 or H200 reaches in fp32, on one core for the
    rest; None where nothing is published."""
    counted = gigaflops(load)
    if counted is None or load.images is None:
        return None
    rate = GPU_GIGAFLOPS if device.startswith("cuda") else CPU_GIGAFLOPS * usable_cores()
    return Seconds(counted / rate, load.images * load.kept * load.pixels * KEEP_SECONDS)
