"""Read weights from untrusted files: safetensors, or PyTorch files without running any code in them."""

import argparse
import hashlib
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from afbench.core import UsageError

from .file_kind import other_kind

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Guess = Callable[[Mapping[str, Tensor]], str]

_NESTS = ("state_dict", "model_state_dict", "model_dict", "model", "net")
"""Keys under which training scripts store the weights, next to other values."""
_DEEPEST = 4
"""How many levels of nesting are opened."""
_WRAPPERS = ("module.", "_orig_mod.", "model.")
"""Prefixes that DataParallel, torch.compile and Lightning add to every name."""


class _Ignored:
    """Replaces values of numpy and paths that are stored with the weights: takes anything, keeps nothing, runs nothing."""

    def __new__(cls, *args: object) -> "_Ignored":
        return object.__new__(cls)

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_IGNORED = (
    "numpy.dtype",
    "numpy.ndarray",
    *(
        f"numpy.{core}.multiarray.{name}"  # of numpy 1 and 2
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, and remove nesting and prefixes from its names.

    Training scripts nest the weights under ``state_dict``, ``model_state_dict``, ``model_dict``, ``model`` or ``net``, and
    wrappers add ``module.``, ``_orig_mod.`` or ``model.`` to every name. Other values in the file, such as an argparse
    Namespace, numbers of numpy or an optimizer's state, are ignored; no code in the file is run.

    Raises:
        UsageError: if the file is missing, damaged or of another kind, holds no tensors, or would run code.
    """
    if not path.is_file():
        raise UsageError(f"checkpoint '{path}' does not exist; give the path of a file")
    content = _content(path)
    state = _unwrapped(path, content)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        keys = ", ".join(map(str, list(state)[:5])) if isinstance(state, Mapping) else type(state).__name__
        raise UsageError(
            f"checkpoint '{path}' holds no state dict of tensors; found {ascii(keys)[1:-1][:120]}"
        )
    return _without_prefixes(state)


def _content(path: Path) -> Any:
    """Read the content of a file without running any code in it."""
    try:
        if kind := other_kind(path):
            raise UsageError(f"checkpoint '{path}' {kind}")
        if path.suffix == ".safetensors":
            return load_file(path)
        harmless = [argparse.Namespace, *((_Ignored, name) for name in _IGNORED)]
        with warnings.catch_warnings(), torch.serialization.safe_globals(harmless):  # type: ignore[arg-type]
            warnings.simplefilter("ignore")  # about unusual pickles: an error is one line here
            return torch.load(path, map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL ([\w.]{1,100})", str(error))
        raise UsageError(
            f"checkpoint '{path}' was not opened: {_refusal_of_object(name[1] if name else '')}"
        ) from None
    except Exception as error:  # damaged bytes make the unpickler fail in any way
        raise UsageError(
            f"checkpoint '{path}' cannot be read: {' '.join(str(error).split())[:120] or type(error).__name__}"
        ) from None


def _refusal_of_object(class_name: str) -> str:
    """Say why a file with an object in it was not opened, and how to make one that can be."""
    if class_name.startswith("omegaconf."):
        return (
            f"it holds '{class_name}' (settings of OmegaConf beside the weights), and unpickling them could run code; if you "
            "trust its makers, save the weights alone with their software: "
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], 'weights.pth')"
        )
    content_note = (
        f"it holds '{class_name}' (a whole pickled network, or an object beside the weights)"
        if class_name
        else "it is no PyTorch file of plain tensors"
    )
    return (
        f"{content_note}, and unpickling anything else could run code; where it was made, save the weights alone: "
        "torch.save(network.state_dict(), 'weights.pth')"
    )


def _unwrapped(path: Path, content: Any) -> Any:
    """Return what lies under the nesting of a training script.

    Raises:
        UsageError: if weights lie under several keys.
    """
    for _ in range(_DEEPEST):
        nests = [name for name in _NESTS if isinstance(content, Mapping) and _may_nest(content.get(name))]
        if not nests:
            break
        if len(nests) > 1:
            raise UsageError(
                f"checkpoint '{path}' holds weights in several places ({', '.join(nests)}); save the right ones alone: "
                f"torch.save(checkpoint['{nests[0]}'], 'weights.pth')"
            )
        content = content[nests[0]]
    return content


def _may_nest(value: Any) -> bool:
    """Tell whether a value holds tensors or another nest; settings under a name such as ``model`` hold neither."""
    return isinstance(value, Mapping) and (
        any(isinstance(entry, Tensor) for entry in value.values()) or any(name in value for name in _NESTS)
    )


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that wrappers added to every name, in any order and number."""
    while state:
        wrapper = next(
            (prefix for prefix in _WRAPPERS if all(name.startswith(prefix) for name in state)), None
        )
        if wrapper is None:
            break
        state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return dict(state)


def fill(
    network: nn.Module, state: Mapping[str, Tensor], origin: str, guess: Guess = lambda state: ""
) -> None:
    """Load a state dict into a network of the same names and shapes.

    Args:
        network: gets the weights.
        state: the weights by name.
        origin: the checkpoint's name in an error.
        guess: returns what to add to an error about wrong names, e.g. which network has them.
    Raises:
        UsageError: if keys are missing or unexpected, or a shape differs.
    """
    expected = network.state_dict()
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unexpected:
        raise UsageError(
            f"checkpoint '{origin}' is of another network: {len(missing)} of {len(expected)} keys missing{_first(missing)}, "
            f"{len(unexpected)} unexpected{_first(unexpected)}{guess(state)}"
        )
    for name, value in expected.items():
        problem = _problem(name, state[name], value)
        if problem:
            raise UsageError(f"checkpoint '{origin}': {name} {problem}")
    network.load_state_dict(dict(state))


def _problem(name: str, value: Tensor, expected: Tensor) -> str:
    """Say why a tensor cannot replace another; "" if it can. Half precision is accepted, and becomes float32."""
    if value.shape != expected.shape:
        return f"has shape {tuple(value.shape)}, expected {tuple(expected.shape)}"
    allowed = _FLOATS if expected.is_floating_point() else (expected.dtype,)
    dense = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
    if not dense or value.dtype not in allowed:
        return f"is {value.dtype}, {value.layout} on {value.device}; expected dense {expected.dtype}"
    if expected.is_floating_point() and not bool(torch.isfinite(value.to(expected.dtype)).all()):
        return "holds NaN, infinite or overflowing values"
    if name.endswith("running_var") and bool((value < 0).any()):
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
    first_names, ellipsis = ", ".join(names[:3]), ", ..." if len(names) > 3 else ""
    return f" ({first_names}{ellipsis})"
