"""The files of a training: modules that are kept, and the state that a stopped run goes on from. No pickle."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from afbench.core import UsageError

from .checkpoint import BEST, FORMAT, HEADER, LAST, read_tensors
from .processes import Processes
from .settings import complete_settings

Commit = Callable[[Path, bytes], Any]
"""Writes a file whole or not at all."""
_STATE_FORMAT = "afbench-ansm-state-1"
_COLUMNS = ("stage", "epoch", "lr", "loss", "validation")


@dataclass
class Progress:
    """Where a training is: stage and epoch in progress, steps of it that are done, and what it has seen."""

    stage: int = 0
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    best: float = math.inf
    history: list[dict[str, Any]] = field(default_factory=list)


class RunFiles:
    """The folder of one training; only the main process writes."""

    def __init__(self, out: Path, card: Mapping[str, Any], commit: Commit, processes: Processes) -> None:
        """Take a folder that is new, empty, or of the same training.

        Raises:
            UsageError: if it is of another one.
        """
        self.out, self.commit, self.processes = out, commit, processes
        self.card: dict[str, Any] = {"format": FORMAT, **card}
        self._expected = json.loads(json.dumps(_deciding(self.card)))
        self._state = out / "state.safetensors"
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not self._begun())):
            raise UsageError(f"--out '{out}' holds something that is no training; give a new folder")
        for path in (self._state, out / f"{LAST}.safetensors"):
            if path.is_file():
                self._require_same(_deciding(read_tensors(path)[1]))
        processes.wait()  # nobody writes before everybody has looked

    def finished(self) -> dict[str, Any] | None:
        """Return the best checkpoint's card, if the training is complete."""
        last = self.out / f"{LAST}.safetensors"
        if self._state.is_file() or not last.is_file() or not read_tensors(last)[1].get("finished"):
            return None
        return read_tensors(self.out / f"{BEST}.safetensors")[1]

    def save_module(self, name: str, weights: Mapping[str, Tensor], results: Mapping[str, Any]) -> None:
        """Write ``name.safetensors`` with the card in its header, and the card beside it."""
        if self.processes.main:
            self._write(name, weights, {**self.card, **results})

    def save_state(
        self, progress: Progress, network: nn.Module, average: list[Tensor], optimiser: Any, plateau: Any
    ) -> None:
        """Write all that the next step depends on."""
        if not self.processes.main:
            return
        tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
        tensors |= {f"average.{number}": value for number, value in enumerate(average)}
        tensors["rng"] = torch.get_rng_state()
        optimiser_state = optimiser.state_dict()
        for number, values in optimiser_state["state"].items():
            tensors |= {f"optimiser.{number}.{name}": value for name, value in values.items()}
        header = {
            **self.card,
            "format": _STATE_FORMAT,
            "progress": _jsonable(asdict(progress)),
            "optimiser": optimiser_state["param_groups"],
            "plateau": _jsonable(plateau.state_dict()),
        }
        self.commit(self._state, _packed(tensors, header))

    def restore(
        self,
        progress: Progress,
        network: nn.Module,
        average: list[Tensor],
        optimise: Callable[[int], tuple[Any, Any]],
    ) -> None:
        """Put everything back as ``save_state`` found it; does nothing in a new folder.

        Raises:
            UsageError: if the state is damaged.
        """
        if not self._state.is_file():
            return
        tensors, header = read_tensors(self._state)
        try:
            values = {name: _number(value) for name, value in header["progress"].items()}
            for name, value in values.items():
                setattr(progress, name, value)
            network.load_state_dict(
                {name[8:]: value for name, value in tensors.items() if name.startswith("network.")}
            )
            for index, tensor in enumerate(average):
                tensor.copy_(tensors[f"average.{index}"])
            torch.set_rng_state(tensors["rng"])
            optimiser, plateau = optimise(progress.stage)
            states: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                if name.startswith("optimiser."):
                    _, number, key = name.split(".")
                    states.setdefault(int(number), {})[key] = value
            groups = [
                {**group, "betas": tuple(group["betas"])} for group in header["optimiser"]
            ]  # JSON has no tuples
            optimiser.load_state_dict({"state": states, "param_groups": groups})
            plateau.load_state_dict({name: _number(value) for name, value in header["plateau"].items()})
        except (KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
            raise UsageError(
                f"'{self._state}' is damaged ({' '.join(str(error).split())[:100]}); remove it to train anew"
            ) from None

    def finish(self) -> dict[str, Any]:
        """Mark the training as complete and remove the state."""
        if self.processes.main:
            tensors, header = read_tensors(self.out / f"{LAST}.safetensors")
            self._write(LAST, tensors, {**header, "finished": True})
            self._state.unlink(missing_ok=True)
        self.processes.wait()
        return read_tensors(self.out / f"{BEST}.safetensors")[1]

    def log(self, history: list[dict[str, Any]]) -> None:
        """Write ``log.csv`` anew, and add the last row to TensorBoard where it is installed."""
        if not self.processes.main:
            return
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
        path = self.out / f"{LAST}.safetensors"
        if not path.is_file():
            return "nothing was saved yet"
        header = read_tensors(path)[1]
        return f"the last good checkpoint is '{path}' (stage {header['stage']}, epoch {header['epoch']})"

    def _begun(self) -> bool:
        return self._state.is_file() or (self.out / f"{LAST}.safetensors").is_file()

    def _require_same(self, saved: Mapping[str, Any]) -> None:
        for part, expected in self._expected.items():
            saved_part = saved.get(part)
            if saved_part == expected:
                continue
            names = [
                name
                for name in expected
                if not isinstance(saved_part, dict) or saved_part.get(name) != expected[name]
            ]
            saved_value = saved_part.get(names[0]) if isinstance(saved_part, dict) and names else saved_part
            raise UsageError(
                f"'{self.out}' holds a training with another {part} {names[0] if names else ''} ({saved_value}, now "
                f"{expected.get(names[0]) if names else expected}); give another --out, or the same options to go on"
            )

    def _write(self, name: str, weights: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
        card = dict(header)
        self.commit(self.out / f"{name}.safetensors", _packed(weights, card))
        text = json.dumps(card, sort_keys=True, indent=2, ensure_ascii=False)
        self.commit(self.out / f"{name}.json", (text + "\n").encode())


def _deciding(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be the same for a training to go on."""
    return {
        "settings": complete_settings(card.get("settings")),
        "localizer": card.get("localizer"),
        "data": card.get("data"),
        "processes": card.get("processes"),
    }


def _packed(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    return save(plain, metadata={HEADER: json.dumps(header, sort_keys=True)})


def _jsonable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Write infinity as a text, since JSON has none; the other values are numbers, texts and lists of them."""
    return {name: "inf" if value == math.inf else value for name, value in values.items()}


def _number(value: Any) -> Any:
    return math.inf if value == "inf" else value
