"""The files of a training: checkpoints, the log, and the state that a stopped run goes on from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from afbench.core import UsageError

from .processes import Processes
from .weights_file import BEST, LAST, pack, read_tensors

_STATE_FORMAT = "afbench-ansm-state-1"  # of every training: the name is older than the others
_COLUMNS = ("stage", "epoch", "lr", "loss", "validation")


class RunFiles:
    """The folder of one training; only the main process writes.

    It gets ``best.safetensors`` (the lowest validation loss of the last stage) and ``last.safetensors``, each with a JSON of
    the same name beside it, ``log.csv``, TensorBoard's events where it is installed, and while the training runs
    ``state.safetensors``.
    """

    def __init__(
        self,
        out: Path,
        card: Mapping[str, Any],
        commit: Callable[[Path, bytes], Any],
        processes: Processes,
        complete_settings: Callable[[Any], Any] = lambda settings: settings,
    ) -> None:
        """Take a folder that is new, empty, or of the same training.

        Args:
            out: the folder.
            card: what checkpoints say: ``format``, ``settings`` and whatever else; plain JSON.
            commit: writes a file whole or not at all.
            processes: of the training; every one opens the folder.
            complete_settings: adds to the settings of an older training what was not recorded in its time.
        Raises:
            UsageError: if it is of another one.
        """
        self.out, self.commit, self.processes = out, commit, processes
        self.card: dict[str, Any] = dict(card)  # training adds to it
        self.state, self._last = out / "state.safetensors", out / f"{LAST}.safetensors"
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not self._begun())):
            raise UsageError(f"--out '{out}' holds something that is no training; give a new folder")
        for path in (self.state, self._last):
            if path.is_file():
                self._require_same(read_tensors(path)[1], complete_settings)
        processes.wait()  # nobody writes before everybody has looked

    def finished(self) -> dict[str, Any] | None:
        """Return the best checkpoint's card, if the training is complete."""
        if self.state.is_file() or not self._last.is_file():
            return None
        return self._best_card() if read_tensors(self._last)[1].get("finished") else None

    def finish(self) -> dict[str, Any]:
        """Mark the training as complete and remove the state; return the best checkpoint's card."""
        if self.processes.main:
            tensors, header = read_tensors(self._last)
            self._write(LAST, tensors, {**header, "finished": True})
            self.state.unlink(missing_ok=True)  # last: without it, nothing goes on
        self.processes.wait()
        return self._best_card()

    def save_module(self, name: str, weights: Mapping[str, Tensor], results: Mapping[str, Any]) -> None:
        """Write ``name.safetensors`` with the card in its header, and the card beside it."""
        if self.processes.main:
            self._write(name, weights, {**self.card, **results})

    def save_state(self, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
        """Write the state that a stopped run goes on from."""
        if self.processes.main:
            self.commit(self.state, pack(tensors, {**self.card, "format": _STATE_FORMAT, **header}))

    def log(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write ``log.csv`` anew, and add the last row to TensorBoard where it is installed."""
        if not self.processes.main:
            return
        # anew, since a stopped run may have logged epochs that are done again
        lines = [",".join(_COLUMNS), *(",".join(str(row[name]) for name in _COLUMNS) for row in history)]
        self.commit(self.out / "log.csv", ("\n".join(lines) + "\n").encode())
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        row = history[-1]
        # what a stopped run wrote beyond this is hidden
        with SummaryWriter(str(self.out / "tensorboard"), purge_step=len(history)) as writer:
            for name in ("lr", "loss", "validation"):
                writer.add_scalar(f"{row['stage']}/{name}", row[name], len(history))

    def last_good(self) -> str:
        """Say where the last checkpoint is."""
        if not self._last.is_file():
            return "nothing was saved yet"
        card = read_tensors(self._last)[1]
        return f"the last good checkpoint is '{self._last}' (stage {card['stage']}, epoch {card['epoch']})"

    def _begun(self) -> bool:
        return self.state.is_file() or self._last.is_file()

    def _best_card(self) -> dict[str, Any]:
        return read_tensors(self.out / f"{BEST}.safetensors")[1]

    def _require_same(self, saved: Mapping[str, Any], complete_settings: Callable[[Any], Any]) -> None:
        """Refuse to go on with a training of other settings, another localizer, other data, more processes or another start."""
        # not "made_with": a training may go on under another version
        for part in ("settings", "localizer", "data", "processes", "start"):
            # through JSON, which has no tuples
            expected: Any = json.loads(json.dumps(self.card.get(part)))
            actual: Any = saved.get(part)
            if part == "settings":
                expected, actual = complete_settings(expected), complete_settings(actual)
            if actual == expected:
                continue
            name = ""
            if isinstance(expected, dict) and isinstance(actual, dict):
                name = next((key for key in expected if actual.get(key) != expected[key]), "")
                expected, actual = expected.get(name, expected), actual.get(name, None if name else actual)
            raise UsageError(
                f"'{self.out}' holds a training with another {part} {name} ({actual}, now {expected}); give another "
                "--out, or the same options to go on"
            )

    def _write(self, name: str, weights: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
        self.commit(self.out / f"{name}.safetensors", pack(weights, card))
        text = json.dumps(card, sort_keys=True, indent=2, ensure_ascii=False)
        self.commit(self.out / f"{name}.json", (text + "\n").encode())
