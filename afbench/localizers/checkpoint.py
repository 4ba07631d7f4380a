"""Read weights from files nobody vouches for: safetensors, or PyTorch files without running what is in them."""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from afbench.core import UsageError


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict; ``{"state_dict": ...}`` nesting is opened.

    Raises:
        UsageError: if the file is missing, damaged, holds anything but tensors, or would run code.
    """
    if not path.is_file():
        raise UsageError(f"checkpoint '{path}' does not exist; give the path of a file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles; what is wrong is said in one line
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UsageError(
            f"checkpoint '{path}' was not opened: it is no PyTorch file of plain tensors, and unpickling anything else "
            "could run code; save its state_dict as safetensors"
        ) from None
    except Exception as error:  # damaged bytes make the unpickler fail in any way
        raise UsageError(
            f"checkpoint '{path}' cannot be read: {' '.join(str(error).split())[:120]}"
        ) from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise UsageError(f"checkpoint '{path}' holds no state dict of tensors")
    return dict(state)


def fill(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict into a network of the same names and shapes.

    Raises:
        UsageError: naming missing and unexpected keys, or the first shape that differs.
    """
    wanted = network.state_dict()
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unexpected:
        raise UsageError(
            f"checkpoint '{origin}' is of another network: {len(missing)} keys missing{_first(missing)}, "
            f"{len(unexpected)} unexpected{_first(unexpected)}"
        )
    for name, value in wanted.items():
        if value.shape != state[name].shape:
            raise UsageError(
                f"checkpoint '{origin}': {name} has shape {tuple(state[name].shape)}, expected {tuple(value.shape)}"
            )
        if state[name].is_floating_point() and not bool(torch.isfinite(state[name]).all()):
            raise UsageError(f"checkpoint '{origin}': {name} holds NaN or infinite values")
    network.load_state_dict(dict(state))


def state_sha256(network: nn.Module) -> str:
    """Hash a network's weights by name, shape and bytes, whatever file they came from."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _first(names: list[str]) -> str:
    return f" (first: {names[0]})" if names else ""
