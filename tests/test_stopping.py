"""What commands say of a Ctrl-C or SIGTERM: what is kept, and what is lost."""

import signal
from pathlib import Path
from typing import Any

import pytest

from afbench import cli
from afbench.cli.stopping import LEAVES, after_stop
from afbench.core import Stopped


def test_every_command_says_what_an_interrupt_leaves() -> None:
    assert list(LEAVES) == list(cli._COMMANDS)
    assert after_stop(KeyboardInterrupt(), None) == after_stop(None, "unknown") == "stopped"
    assert after_stop(Stopped("3 of 4 shards are kept"), "generate") == "stopped; 3 of 4 shards are kept"


@pytest.mark.parametrize(
    ("place", "arguments", "told"),
    [
        (
            "afbench.scoring.score.score",
            ("score", "S", "--data", "B", "--out", "O"),
            "what was counted is lost",
        ),
        (
            "afbench.workflows.evaluation.evaluation_files.check_targets",
            ("evaluate", "--data", "B", "--localizer", "reference"),
            "what was counted is lost",
        ),
        (
            "afbench.workflows.training.train_ansm.train_ansm",
            ("train", "ansm", "--data", "B", "--localizer", "reference", "--out", "O"),
            "the state saved last (every 200 steps, and after every epoch) is kept",
        ),
        (
            "afbench.workflows.evaluation.predict.predict",
            ("predict", "--data", "B", "--localizer", "reference", "--out", "O"),
            "masks that are written are kept",
        ),
        (
            "afbench.workflows.publishing.export.export",
            ("export", "B", "--to", "hdf5", "--out", "O"),
            "files that are whole",
        ),
        ("afbench.storage.verify.rows_to_check", ("verify", "B"), "checks change nothing"),
    ],
)
def test_an_interrupted_command_speaks_of_itself(
    afbench: Any, monkeypatch: pytest.MonkeyPatch, place: str, arguments: tuple[str, ...], told: str
) -> None:
    def stop(*given: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, stop)
    ran = afbench(*arguments)
    lines = [line for line in ran.err.splitlines() if line.startswith("afbench: error: ")]
    assert ran.code == 3 and len(lines) == 1 and told in lines[0] and "generate" not in lines[0]


def test_generate_says_how_many_shards_are_kept_and_how_many_gradients_are_lost(
    afbench: Any, tmp_path: Path, on_gradients: Any
) -> None:
    """A SIGTERM in the second of two shards: the first is kept, and two gradients are lost."""
    taken: list[int] = []

    def terminate(images: int) -> None:
        taken.append(images)
        if sum(taken) == 4:
            signal.raise_signal(signal.SIGTERM)

    on_gradients(terminate)
    common = ("--localizer", "reference", "--attack", "fgsm", "--phi", "1/255", "--source", "demo")
    command = ("generate", *common, "--limit", "4", "--shard-size", "2", "--out", "B")
    ran = afbench(*command)
    assert ran.code == 3
    assert ran.err.splitlines()[-1] == (
        "afbench: error: stopped; 3 of 4 shards are committed and kept, 2 gradients of unfinished ones are lost; "
        "the same command goes on from there"
    )
    on_gradients(lambda images: None)
    ran = afbench(*command)
    assert ran.code == 0 and "(1 shards written, 2 gradients)" in ran.out
