"""Load what an evaluation needs: the benchmark, its true masks, localizers, defences and steps of posting; no image is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from afbench.core import AfbenchError, Localizer, UsageError
from afbench.defences import Purifier, load_defence
from afbench.defences.custom_defence import require_one_code
from afbench.defences.post_names import step_text
from afbench.defences.posting import load_step
from afbench.defences.purifier import require_owner
from afbench.localizers import LocalizerChoice, load_localizer
from afbench.scoring.image_level import OWN, unknown_score
from afbench.scoring.truth import Truth, open_truth
from afbench.storage.manifests import Benchmark, open_benchmark

from ..adaptive import attack_size_warning, require_oblivious
from ..attacked_localizer import require_architecture, require_attacked
from ..request import config_localizer
from .victims import OpenedLocalizer, open_victims


@dataclass(frozen=True, kw_only=True)
class EvaluationSetup:
    """A benchmark, the localizer it attacked, and the defences to evaluate that localizer behind, ``none`` first.

    ``steps`` of posting, by the way they are written, are evaluated with the bare localizer.
    """

    benchmark: Benchmark
    truth: Truth
    name: str
    localizer: Localizer
    purifiers: Sequence[Purifier]
    seed: int
    device: str
    batch_size: int | None
    steps: Mapping[str, Purifier] = field(default_factory=dict)


class Evaluations(NamedTuple):
    """One setup per localizer that the benchmark attacked, and a line for every defence that is left out for one of them or was
    trained at another size.

    ``victims`` are the setups of all localizers, attacked or not, where there are several: each is judged under the attacks
    on the others.
    """

    setups: list[EvaluationSetup]
    notes: list[str]
    victims: list[EvaluationSetup]


def require_own_score(evaluations: Evaluations, image_score: str | None) -> None:
    """Refuse a localizer's own score of images where no localizer has one, before anything is localized.

    Raises:
        UsageError: with what it needs.
    """
    localizers = [setup.localizer for setup in evaluations.setups]
    if image_score == OWN and all(
        getattr(localizer, "image_score", None) is None for localizer in localizers
    ):
        names = ", ".join(setup.name for setup in evaluations.setups)
        raise unknown_score(image_score, f"{names} gives no score of whole images")


def open_evaluation(
    data: Path,
    *,
    localizer: str,
    localizer_name: str | None = None,
    checkpoint: str | None = None,
    **options: Any,
) -> EvaluationSetup:
    """Load what the evaluation of one localizer needs; see ``open_evaluations``.

    Args:
        data: a finished benchmark.
        localizer: the name of the network.
        localizer_name: what configs call it, if ``generate`` was given another name, e.g. for hardened weights.
        checkpoint: its weights, if they are neither embedded nor registered.
        **options: those of ``open_evaluations``.
    """
    choice = LocalizerChoice(localizer, checkpoint, localizer_name)
    return open_evaluations(data, localizers=[choice], **options).setups[0]


def open_evaluations(
    data: Path,
    *,
    localizers: Sequence[LocalizerChoice],
    defences: Sequence[str | Purifier] = (),
    after: Sequence[str] = (),
    seed: int = 0,
    device: str = "cpu",
    batch_size: int | None = None,
) -> Evaluations:
    """Load what the evaluation of each localizer needs; no image is read.

    Args:
        data: a finished benchmark.
        localizers: networks that it attacked; of several, some may be ones that it did not attack.
        defences: as ``load_defence`` reads them, or what ``afbench.as_defence`` made; the bare localizer is always evaluated.
            With several localizers, a defence that was trained for one of them is left out for the others, with a note.
        after: steps of posting, as ``jpeg:90``, that images go through before the bare localizer sees them.
        seed: of random defences.
        device: where to compute.
        batch_size: images per batch; None to follow their size.
    Raises:
        UsageError: if the benchmark attacked other weights or another threshold under the name of a localizer, has no config of
            the only one, or a defence is wrong.
        AfbenchError: if the benchmark is damaged, or weights are untrained.
    """
    steps = {step_text(text): load_step(text) for text in after}
    benchmark = open_benchmark(data)
    several = len(localizers) > 1
    opened = (
        open_victims(benchmark, localizers, device)
        if several
        else [_open_attacked(benchmark, localizers[0], device)]
    )
    truth = open_truth(data)
    setups, victims, notes = [], [], []
    errors_by_defence: list[list[UsageError]] = [[] for _ in defences]
    for choice, (name, network, was_attacked) in zip(localizers, opened, strict=True):
        attacked_config = benchmark.configs[require_oblivious(benchmark, name)[0]] if was_attacked else None
        bare = load_defence("none")
        purifiers = {bare.label: bare}  # by label, so that a defence given twice is evaluated once
        for errors, text in zip(errors_by_defence, defences, strict=True) if was_attacked else ():
            try:
                defence = load_defence(
                    text, localizer=config_localizer(choice.name), device=device, seed=seed
                )
                require_owner(defence, network)
            except UsageError as error:
                errors.append(error)
                notes.append(f"{name} without {text}: {error}")
                continue
            namesake = purifiers.setdefault(defence.label, defence)
            if namesake.describe() != defence.describe():
                raise UsageError(f"two different defences are called {defence.label}; rename one of them")
            require_one_code(defence, namesake)
            warning = attacked_config and attack_size_warning(attacked_config, network, defence)
            notes += [warning] if warning else []
        setup = EvaluationSetup(
            benchmark=benchmark,
            truth=truth,
            name=name,
            localizer=network,
            purifiers=list(purifiers.values()),
            seed=int(attacked_config.provenance["seed"]) if attacked_config else 0,
            device=device,
            batch_size=batch_size,
            steps=steps if was_attacked else {},
        )
        if was_attacked:
            setups.append(setup)
        elif defences or steps:
            notes.append(f"{name} without --defence and --after: no config of '{data}' attacked it")
        if several:
            victims.append(setup)
    # one localizer may do without a defence of another, but a defence that fits none of them is a mistake
    for errors in errors_by_defence:
        if errors and len(errors) == len(setups):
            raise errors[0]
    return Evaluations(setups, notes, victims)


def _open_attacked(benchmark: Benchmark, choice: LocalizerChoice, device: str) -> OpenedLocalizer:
    """Load the network that every config of a name attacked."""
    name = config_localizer(choice.label or choice.name)
    records = [
        benchmark.configs[config].provenance["localizer"] for config in require_oblivious(benchmark, name)
    ]
    require_architecture(choice.name, records[0], benchmark.folder)
    if records[0]["untrained"]:
        raise AfbenchError(
            f"'{benchmark.folder}' attacked untrained weights of {name}: figures of random weights mean nothing"
        )
    network = load_localizer(choice.name, choice.checkpoint, device=device)
    for record in records:
        require_attacked(network, record, benchmark.folder)
    return OpenedLocalizer(name, network, was_attacked=True)
