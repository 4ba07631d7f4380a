"""Estimate what a plan costs before it runs: images, gradients, disk. No torch, no data, no weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from afbench.core import Setting
from afbench.resources import resource_json

from .attacks import attack_of
from .ensemble import QUERIES
from .params import LOSSES, TARGETS
from .runplan import Block, RunPlan, SourceSpec

DEMO_COUNT, DEMO_SIDE = 120, 128
SYNTHETIC_COUNT, SYNTHETIC_SIDE = 100, 128
WEBP_SHARE = 0.53
"""Stored size over raw size of attacked images as lossless WebP (STORAGE: 0.45 to 0.61)."""
LEAST_SHARE = 0.45
"""The same share where it is smallest: a disk that cannot hold even that is too small."""


@dataclass(frozen=True, kw_only=True)
class BlockEstimate:
    """Figures of one block. ``gradients_*`` are forward and backward passes per image and localizer."""

    localizers: tuple[str, ...]
    sources: dict[str, int | None]
    configs: int
    settings: int
    adversarial_images: int | None
    gradients_naive: int
    gradients_shared: int
    gradients_total: int | None
    disk_bytes: int | None

    @property
    def gradients_per_image(self) -> dict[str, int]:
        return {"naive": self.gradients_naive, "shared": self.gradients_shared}


def naive_gradients(setting: Setting) -> int:
    """Count the gradients of one setting on one image when nothing is shared."""
    params = setting.params
    if setting.user_attack:
        return int(setting.user_attack.gradients(params))
    if setting.attack == "square":
        return 0
    if setting.attack == "pgn":
        return 2 * int(params["neighbours"]) * setting.steps
    # these parameters multiply gradients: passes averaged over, darker copies, rounds of C&W's search, neighbours
    return (
        setting.steps
        * int(params.get("eot_iter", 1))
        * int(params.get("m", 1))
        * int(params.get("c_search", 1))
        * (1 + int(params.get("N", 0)))
    )


def loss_and_target(setting: Setting) -> tuple[str, str]:
    """Return the names of the loss and the target of a setting."""
    return setting.params.get("loss", LOSSES[0]), setting.params.get("target", TARGETS[0])


def queries(setting: Setting) -> int:
    """Count the forward passes without a gradient of one setting on one image, besides the judging of the result."""
    if setting.user_attack:
        return int(setting.user_attack.queries(setting.params))
    # C&W's search scores each round; APGD looks at the loss of its last point; TPGD asks first what the localizer says of the original
    searched = int(setting.params.get("c_search", 0))
    return {"square": setting.steps, "apgd": 1, "strong": QUERIES, "ta_tpgd": 1, "cw": searched}.get(
        setting.attack, 0
    )


def shared_gradients(settings: Iterable[Setting]) -> int:
    """Count the gradients of many settings on one image: the sign group shares one per loss and target, C&W one trajectory."""
    settings = list(settings)
    # every attack of this group begins with the gradient at the original, which depends on its objective alone
    sign = [setting for setting in settings if attack_of(setting).group == "sign"]
    total = len({loss_and_target(setting) for setting in sign}) + sum(setting.steps - 1 for setting in sign)
    trajectories: dict[str, int] = {}
    for setting in settings:
        if setting.attack == "cw" and "c_search" not in setting.params:
            # fewer steps are a snapshot of the same trajectory: the longest run pays for all
            key = repr(sorted(setting.params.items()))
            trajectories[key] = max(trajectories.get(key, 0), setting.steps)
        elif attack_of(setting).group != "sign":
            total += naive_gradients(setting)
    return total + sum(trajectories.values())


def estimate(
    plan: RunPlan, counts: Mapping[str, int] | None = None, pixels: Mapping[str, int] | None = None
) -> list[BlockEstimate]:
    """Estimate every block of a plan.

    Args:
        plan: localizers, sources and settings.
        counts: samples of the sources that were opened; published or built-in counts fill the rest, and a
            folder that was not opened has none.
        pixels: typical pixels of an image of these sources, where they were counted.
    """
    return [_estimate_block(plan, block, counts or {}, pixels or {}) for block in plan.blocks]


def _estimate_block(
    plan: RunPlan, block: Block, counts: Mapping[str, int], pixels: Mapping[str, int]
) -> BlockEstimate:
    sizes = {source.name: expected_source(source, plan.limit, counts, pixels) for source in block.sources}
    shared = shared_gradients(block.settings)
    known_sizes = [size for size in sizes.values() if size is not None]
    images = sum(count for count, _ in known_sizes) if len(known_sizes) == len(sizes) else None
    raw = sum(count * pixels * 3 for count, pixels in known_sizes)
    config_count = len(block.settings) * len(block.localizers)
    # the disk holds one image more than there are configs: the original
    return BlockEstimate(
        localizers=block.localizers,
        sources={name: size[0] if size else None for name, size in sizes.items()},
        configs=config_count,
        settings=len(block.settings),
        adversarial_images=None if images is None else images * config_count,
        gradients_naive=sum(naive_gradients(setting) for setting in block.settings),
        gradients_shared=shared,
        gradients_total=None if images is None else images * shared * len(block.localizers),
        disk_bytes=None if images is None else int(raw * WEBP_SHARE * (config_count + 1)),
    )


def expected_source(
    source: SourceSpec,
    limit: int | None,
    counts: Mapping[str, int],
    pixels: Mapping[str, int] | None = None,
) -> tuple[int, int] | None:
    """Return the number of samples and their typical pixels; None for a folder nobody has opened.

    ``pixels`` holds typical pixels of a user's own copies; published or assumed ones fill the rest.
    """
    published = resource_json("sources").get(source.read_as)
    if published:
        count, pixels_per_image = int(published["count"]), int(published["typical_pixels"])
        count = counts.get(source.name, count)
    elif source.name in counts:
        count, pixels_per_image = counts[source.name], 512 * 512
    elif source.name == "demo":
        count, pixels_per_image = DEMO_COUNT, DEMO_SIDE**2
    elif source.name == "synthetic":
        count, pixels_per_image = limit or SYNTHETIC_COUNT, SYNTHETIC_SIDE**2
    else:
        return None
    pixels_per_image = (pixels or {}).get(source.name, pixels_per_image)
    if (
        source.read.max_side is not None
    ):  # sides of an image that was not seen are not known: at most a square
        pixels_per_image = min(pixels_per_image, source.read.max_side**2)
    return (min(count, limit) if limit else count), pixels_per_image


def settings_by_group(settings: Sequence[Setting]) -> dict[str, list[Setting]]:
    """Group the settings that share gradients, in the order of the plan."""
    groups: dict[str, list[Setting]] = {}
    for setting in settings:
        groups.setdefault(attack_of(setting).group, []).append(setting)
    return groups
