"""Read weights from files nobody vouches for: safetensors, or PyTorch files without running what is in them."""

import argparse
import hashlib
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from afbench.core import UsageError

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Guess = Callable[[Mapping[str, Tensor]], str]


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict; ``{"state_dict": ...}`` nesting is opened.

    Beside tensors an argparse Namespace may stand in the file, as training scripts leave it: it holds values, no code.

    Raises:
        UsageError: if the file is missing, damaged, holds anything but tensors, or would run code.
    """
    if not path.is_file():
        raise UsageError(f"checkpoint '{path}' does not exist; give the path of a file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # of unusual pickles; what is wrong is said in one line
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UsageError(
            f"checkpoint '{path}' was not opened: it is no PyTorch file of plain tensors, and unpickling anything else "
            "could run code; save its state_dict as safetensors"
        ) from None
    except Exception as error:  # damaged bytes make the unpickler fail in any way
        raise UsageError(
            f"checkpoint '{path}' cannot be read: {' '.join(str(error).split())[:120] or type(error).__name__}"
        ) from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        keys = ", ".join(map(str, list(state)[:5])) if isinstance(state, Mapping) else type(state).__name__
        raise UsageError(
            f"checkpoint '{path}' holds no state dict of tensors; found {ascii(keys)[1:-1][:120]}"
        )
    return dict(state)


def fill(
    network: nn.Module, state: Mapping[str, Tensor], origin: str, guess: Guess = lambda state: ""
) -> None:
    """Load a state dict into a network of the same names and shapes.

    Args:
        network: gets the weights.
        state: by name.
        origin: what to call the checkpoint in an error.
        guess: what to add to an error about other names, e.g. whose they are.
    Raises:
        UsageError: naming missing and unexpected keys, or the first shape that differs.
    """
    wanted = network.state_dict()
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unexpected:
        raise UsageError(
            f"checkpoint '{origin}' is of another network: {len(missing)} of {len(wanted)} keys missing{_first(missing)}, "
            f"{len(unexpected)} unexpected{_first(unexpected)}{guess(state)}"
        )
    for name, value in wanted.items():
        problem = _problem(name, state[name], value)
        if problem:
            raise UsageError(f"checkpoint '{origin}': {name} {problem}")
    network.load_state_dict(dict(state))


def _problem(name: str, given: Tensor, wanted: Tensor) -> str:
    """Why a tensor cannot take the place of another; "" if it can. Half precision is taken, and becomes float32."""
    if given.shape != wanted.shape:
        return f"has shape {tuple(given.shape)}, expected {tuple(wanted.shape)}"
    allowed = _FLOATS if wanted.is_floating_point() else (wanted.dtype,)
    dense = given.layout == torch.strided and given.device.type == "cpu" and not given.is_quantized
    if not dense or given.dtype not in allowed:
        return f"is {given.dtype}, {given.layout} on {given.device}; expected dense {wanted.dtype}"
    if wanted.is_floating_point() and not bool(torch.isfinite(given.to(wanted.dtype)).all()):
        return "holds NaN, infinite or overflowing values"
    if name.endswith("running_var") and bool((given < 0).any()):
        return "holds negative variances"
    return ""


def state_sha256(network: nn.Module) -> str:
    """Hash a network's weights by name, shape and bytes, whatever file they came from."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().data)  # numpy has no bfloat16
    return digest.hexdigest()


def _first(names: list[str]) -> str:
    if not names:
        return ""
    shown, more = ", ".join(names[:3]), ", ..." if len(names) > 3 else ""
    return f" ({shown}{more})"
