"""All that the next step of a training depends on, as tensors and JSON. No pickle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from afbench.core import UsageError

from .training_run import TrainingRun, begin_stage
from .weights_file import read_tensors


def save_state(run: TrainingRun) -> None:
    """Write the state of a run; only the main process does."""
    tensors = {f"network.{name}": value for name, value in run.network.state_dict().items()}
    tensors |= {f"average.{number}": value for number, value in enumerate(run.averaged)}
    tensors["rng"] = torch.get_rng_state()
    optimiser_state = run.optimiser.state_dict()
    for number, values in optimiser_state["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in values.items()}
    header = {
        "progress": _to_json(asdict(run.progress)),
        "optimiser": optimiser_state["param_groups"],
        # named by its first kind, as states of earlier versions are
        "plateau": _to_json(run.rate.scheduler.state_dict()),
    }
    run.files.save_state(tensors, header)


def restore_state(run: TrainingRun) -> None:
    """Put everything back as ``save_state`` found it, if there is a state.

    Raises:
        UsageError: if the state is damaged.
    """
    if not run.files.state.is_file():
        return
    tensors, header = read_tensors(run.files.state)
    try:
        # first, since the optimiser is that of the stage in progress
        for name, value in _from_json(header["progress"]).items():
            setattr(run.progress, name, value)
        run.network.load_state_dict(_below("network.", tensors))
        for index, tensor in enumerate(run.averaged):
            tensor.copy_(tensors[f"average.{index}"])
        torch.set_rng_state(tensors["rng"])
        begin_stage(run)
        optimiser_state: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("optimiser.", tensors).items():
            number, _, key = name.partition(".")
            optimiser_state.setdefault(int(number), {})[key] = value
        # JSON has no tuples
        groups = [{**group, "betas": tuple(group["betas"])} for group in header["optimiser"]]
        run.optimiser.load_state_dict({"state": optimiser_state, "param_groups": groups})
        run.rate.scheduler.load_state_dict(_from_json(header["plateau"]))
    except (KeyError, ValueError, TypeError, RuntimeError, IndexError, AttributeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UsageError(f"'{run.files.state}' is damaged ({reason}); remove it to train anew") from None


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _to_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Write infinity as a text, since JSON has none; the other values are numbers, texts and lists of them."""
    return {name: "inf" if value == math.inf else value for name, value in values.items()}


def _from_json(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.inf if value == "inf" else value for name, value in values.items()}
