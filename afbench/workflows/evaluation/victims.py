"""Load several localizers to judge under the same attacks, and recognise by its weights which of them an attack was made on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from afbench.core import AfbenchError, Localizer, UsageError
from afbench.localizers import LocalizerChoice, load_localizer
from afbench.storage.identity import identity_of
from afbench.storage.manifests import Benchmark

from ..adaptive import oblivious_configs
from ..attacked_localizer import require_attacked
from ..request import config_localizer


class OpenedLocalizer(NamedTuple):
    """A loaded network with its name: that of its configs where the benchmark attacked it, else the user's."""

    name: str
    network: Localizer
    was_attacked: bool


def attackers_of(benchmark: Benchmark) -> dict[str, Mapping[str, Any]]:
    """Return the bare localizers that the benchmark's configs were made against, by name, with their identity."""
    return {
        manifest.localizer_name: identity_of(manifest.provenance)
        for manifest in benchmark.attacked.values()
        if "defence" not in manifest.provenance
    }


def is_network(network: Localizer, identity: Mapping[str, Any]) -> bool:
    """Return whether a loaded localizer is the one that configs attacked: the same architecture and weights."""
    return (network.name, network.weights_sha256) == (identity["architecture"], identity["weights_sha256"])


def open_victims(
    benchmark: Benchmark, choices: Sequence[LocalizerChoice], device: str
) -> list[OpenedLocalizer]:
    """Load several localizers; each is called what the configs call it that attacked its weights.

    Raises:
        UsageError: if the benchmark holds no attack, one localizer is given twice, one cannot be loaded, or its name belongs
            to other weights in the benchmark.
        AfbenchError: if weights are untrained.
    """
    if all(identity["untrained"] for identity in attackers_of(benchmark).values()):
        raise UsageError(
            f"'{benchmark.folder}' holds no attack on a bare localizer with trained weights; make one with "
            "`afbench generate --localizer NAME`"
        )
    opened: dict[str, OpenedLocalizer] = {}
    for choice in choices:
        victim = _open(benchmark, choice, device)
        if victim.name in opened:
            raise UsageError(
                f"two localizers are called '{victim.name}'; leave one out, or name other weights as in "
                f"--localizer second={choice.name}@PATH"
            )
        for earlier in opened.values():
            if (victim.network.name, victim.network.weights_sha256) == (
                earlier.network.name,
                earlier.network.weights_sha256,
            ):
                raise UsageError(
                    f"localizers '{earlier.name}' and '{victim.name}' have the same weights; leave one out"
                )
        opened[victim.name] = victim
    return list(opened.values())


def _open(benchmark: Benchmark, choice: LocalizerChoice, device: str) -> OpenedLocalizer:
    network = load_localizer(choice.name, choice.checkpoint, device=device)
    label = config_localizer(choice.label or choice.name)
    if getattr(network, "untrained", False):
        raise AfbenchError(f"weights of {label} are untrained: figures of random weights mean nothing")
    attackers = attackers_of(benchmark)
    # the weights decide, for anybody may have called another network the same
    names = [name for name, identity in attackers.items() if is_network(network, identity)]
    if not names:
        _require_free(benchmark, label, choice)
        return OpenedLocalizer(label, network, was_attacked=False)
    name = label if label in names else names[0]
    for config in oblivious_configs(benchmark, name):
        require_attacked(network, benchmark.configs[config].provenance["localizer"], benchmark.folder)
    return OpenedLocalizer(name, network, was_attacked=True)


def _require_free(benchmark: Benchmark, label: str, choice: LocalizerChoice) -> None:
    """Refuse a name that the benchmark's configs use for other weights.

    Raises:
        UsageError: with the form that gives it another name.
    """
    names = {manifest.localizer_name: manifest.provenance for manifest in benchmark.attacked.values()}
    if label in names:
        weights = str(names[label]["localizer"]["weights_sha256"])
        checkpoint = f"@{choice.checkpoint}" if choice.checkpoint else ""
        raise UsageError(
            f"'{benchmark.folder}' calls other weights '{label}' ({weights[:12]}); give these a name of their own, as in "
            f"--localizer second={choice.name}{checkpoint}"
        )
