"""Name localizers behind a defence, and find the configs that attacked one (adaptive attacks)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afbench.core import Localizer, UsageError
from afbench.defences import ANSM, NRP, Purifier, load_defence
from afbench.defences.defended_localizer import DefendedLocalizer, defence_of
from afbench.defences.names import defence_names
from afbench.defences.post_names import POST
from afbench.defences.purifier import require_owner
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import Benchmark

from .request import config_localizer


def put_behind_defence(
    localizer: Localizer, name: str, text: str | None, *, device: str, seed: int
) -> Localizer:
    """Put a localizer of the given name behind the defence of ``--through-defence``; without one, return it as it is.

    Raises:
        UsageError: if the defence cannot be used, or is ``none``.
    """
    if text is None:
        return localizer
    defence = load_defence(text, localizer=config_localizer(name), device=device, seed=seed)
    if defence.name == "none":
        raise UsageError("--through-defence none is an attack on the bare localizer; leave the option out")
    require_owner(defence, localizer)
    return DefendedLocalizer(localizer, defence)


def name_in_configs(name: str, localizer: Localizer) -> str:
    """Return what configs call a localizer, defended or not; without its defence they call it ``name``."""
    defence = defence_of(localizer)
    return name if defence is None else defended_name(name, defence)


def defended_name(localizer: str, defence: Purifier) -> str:
    """Return what configs call a localizer behind a defence: ``reference`` and ``jpeg-75`` are ``reference_jpeg_75``."""
    return f"{localizer}_{config_localizer(defence.label)}"


def put_behind_recorded_defence(
    localizer: Localizer,
    provenance: Mapping[str, Any],
    *,
    user_defence: str | None = None,
    device: str = "cpu",
) -> Localizer | None:
    """Put a localizer behind the defence that a config's manifest records; None if that defence is not at hand.

    A manifest names a defence and its setting, never a file or a module: of trained ones only what ships is tried, and of a
    user's own ``user_defence``, a defence that the user named as ``--through-defence``.

    Raises:
        UsageError: if ``user_defence`` cannot be loaded.
    """
    record = provenance.get("defence")
    if record is None:
        return localizer
    architecture = provenance["localizer"]["architecture"]
    if user_defence is not None:
        defence = load_defence(
            user_defence, localizer=architecture, device=device, seed=int(record.get("seed") or 0)
        )
        if _is_same_defence(record, defence.describe()):
            return DefendedLocalizer(localizer, defence)
    try:
        if record["name"] not in defence_names() and not str(record["name"]).startswith(POST):
            return None  # whoever made the benchmark wrote this name, and a module of that name may be a trap
        # the params of what was trained are no setting, and a manifest could make them a path
        # the first of them is the setting; a chain's recipe follows it
        setting = [] if record["name"] in (ANSM, NRP) else list(record["params"].values())[:1]
        text = ":".join(map(str, [record["name"], *setting]))
        defence = load_defence(text, localizer=architecture, device=device, seed=int(record["seed"] or 0))
    except (UsageError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return DefendedLocalizer(localizer, defence) if _is_same_defence(record, defence.describe()) else None


def oblivious_configs(benchmark: Benchmark, localizer: str) -> list[str]:
    """List the configs that attacked the bare localizer of this name."""
    return [
        name
        for name, manifest in benchmark.attacked.items()
        if manifest.localizer_name == localizer and "defence" not in manifest.provenance
    ]


def require_oblivious(benchmark: Benchmark, localizer: str) -> list[str]:
    """List the same configs, and refuse a benchmark without any.

    Raises:
        UsageError: with the localizers that the benchmark has, or how to attack the bare one where it only has attacks through
            a defence.
    """
    configs = oblivious_configs(benchmark, localizer)
    if configs:
        return configs
    defended = {
        manifest.localizer_name: manifest.provenance["localizer"]["architecture"]
        for manifest in benchmark.attacked.values()
        if "defence" in manifest.provenance and manifest.localizer_name.startswith(f"{localizer}_")
    }
    if defended:
        architecture = next(iter(defended.values()))
        label = "" if architecture == localizer else f" --localizer-name {localizer}"
        raise UsageError(
            f"'{benchmark.folder}' attacked '{localizer}' only through a defence ({', '.join(sorted(defended))}); add an attack on "
            f"the bare one, as `afbench generate --localizer {architecture}{label} --attack fgsm --out {benchmark.folder}` with the "
            "same --source and --limit"
        )
    names = sorted(
        {
            _label_and_network(manifest.provenance["localizer"])
            for manifest in benchmark.attacked.values()
            if "defence" not in manifest.provenance
        }
    )
    raise UsageError(
        f"'{benchmark.folder}' has no config of localizer '{localizer}'; its localizers: {', '.join(names) or 'none'}"
    )


def adaptive_configs(benchmark: Benchmark, localizer: str, defence: Purifier) -> list[str]:
    """List the configs whose attacks went through this very defence: same name, setting, weights.

    How an attack took gradients through it (exact or not, draws) and the seed of a random defence may differ.
    """
    description = defence.describe()
    return [
        name
        for name, manifest in benchmark.attacked.items()
        if manifest.localizer_name == defended_name(localizer, defence)
        and _is_same_defence(manifest.provenance.get("defence"), description)
    ]


def attack_size_warning(config: ConfigManifest, network: Localizer, defence: Purifier) -> str | None:
    """Warn of a module that was trained on images attacked at another size than those of a config; None if they agree.

    Noise of size phi at an image's own size is weaker once the localizer has resized it. A localizer that resizes nothing,
    or a checkpoint that does not say, gives no warning.
    """
    size = str(config.provenance.get("attack_at", "native"))
    if defence.attack_at in ("", size) or getattr(network, "side", None) is None:
        return None
    return (
        f"{defence.label} was trained on images attacked at {defence.attack_at} size, and these were attacked at {size} size, "
        "where the same phi is other noise; train it on a benchmark of the same --attack-at"
    )


def _label_and_network(localizer: Mapping[str, Any]) -> str:
    """Write a localizer's label, and its network where that has another name and so needs ``--localizer-name``."""
    label, architecture = str(localizer["name"]), str(localizer.get("architecture", localizer["name"]))
    return label if label == architecture else f"{label} (network {architecture}: --localizer-name {label})"


def _is_same_defence(record: Any, description: Mapping[str, Any]) -> bool:
    return isinstance(record, Mapping) and all(
        record.get(key) == description[key] for key in ("name", "params", "weights_sha256")
    )
