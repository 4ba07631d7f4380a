"""Build a localizer by name. Nothing here imports torch until a localizer is really built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from afbench.argument_types import checks_arguments
from afbench.core import Localizer, UsageError
from afbench.naming import resolve_name, unknown_name
from afbench.resources import resource_json

from .untrained import RANDOM, is_untrained
from .weights import registered

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .published import NetworkRecipe

REFERENCE = "reference"


def list_localizers() -> dict[str, str]:
    """Return the known localizers by name, with what each needs."""
    needs = {REFERENCE: "embedded; needs nothing"}
    for name, row in resource_json("localizers").items():
        try:
            state = "weights registered" if registered(name) else f"weights: {row['file']}, {row['where']}"
        except UsageError as error:
            state = str(error)  # a list also shows damaged records
        needs[name] = f"{row['title']}; {state}"
    return needs | {"MODULE:FUNCTION": "your own; see `afbench weights check --help`"}


def known_localizers() -> list[str]:
    """List the names that come with afbench."""
    return [REFERENCE, *resource_json("localizers")]


def require_known(name: str) -> str:
    """Return afbench's name for what a user writes (``mvss`` for ``MVSS-Net``), and a user's ``module:function`` as it is.

    Raises:
        UsageError: for an unknown localizer, with the known names.
    """
    names = known_localizers()
    resolved = name if ":" in name else resolve_name("localizer", name, names)
    if resolved is None:
        raise unknown_name("localizer", name, names, ", or your own as my_package.my_module:build")
    return resolved


def require_localizer(name: str, checkpoint: str | None) -> str:
    """Refuse a localizer that cannot be built here, before any work and without torch; return its name like ``require_known``.

    Raises:
        UsageError: for an unknown name, missing weights, or a checkpoint that does not exist.
    """
    name = require_known(name)
    if checkpoint == "":
        raise UsageError("the checkpoint is empty; give a path, or leave it out for registered weights")
    if checkpoint is not None and not is_untrained(checkpoint) and not Path(checkpoint).exists():
        raise UsageError(f"checkpoint '{checkpoint}' does not exist; give the path of a file")
    row = resource_json("localizers").get(name)
    if row and checkpoint is None and registered(name) is None:
        raise UsageError(
            f"localizer '{name}' needs the weights of {row['title']}, published by its authors ({row['file']}: "
            f"{row['where']}); give your copy with --checkpoint PATH, or once with `afbench weights add {name} PATH`. "
            f"`--checkpoint {RANDOM}` runs untrained for speed tests; `--localizer {REFERENCE}` needs nothing"
        )
    return name


def why_imprecise(name: str, precision: str) -> str:
    """Say why a localizer is another network in a precision; "" where it is not, or where nobody looked."""
    row = resource_json("localizers").get(name, {})
    return "" if precision == "fp32" else str(row.get("fp32_only", ""))


@checks_arguments
def load_localizer(
    name: str, checkpoint: str | None = None, *, resolution: str = "official", device: str = "cpu"
) -> Localizer:
    """Build a localizer, ready to attack: evaluation mode, parameters frozen.

    Args:
        name: ``reference``, a published localizer (``mvss``, ``ifosn``, ``hdfnet``, ``code``, ``pscc``, ``mesorch``, ``imlvit``,
            ``trufor``), or a user's own ``my_package.my_module:build``.
        checkpoint: the released file as it is (for ``pscc`` the folder of its three), or safetensors; None for the
            embedded or registered weights; ``random`` for untrained ones, which every manifest records.
        resolution: ``official``, or ``input`` to skip the localizer's own resize (then images must have a size that the
            network takes; sides that are no multiple are padded).
        device: the device of the network, e.g. ``cpu`` or ``cuda:0``.
    Raises:
        UsageError: for an unknown name or device, missing weights, or a checkpoint that is missing, damaged, unsafe
            or of another network.
    """
    if resolution not in ("official", "input"):
        raise UsageError(f"resolution must be official or input; found '{resolution}'")
    name = require_localizer(name, checkpoint)
    _require_device(device)
    if name == REFERENCE:
        from .reference import build

        return build(checkpoint, device, lambda state: guess_owner(state, expected_name=REFERENCE))
    if ":" in name:
        from .custom import load_custom

        return load_custom(name, checkpoint, device)
    import torch

    from .checkpoint_files import state_sha256
    from .published import PublishedLocalizer

    network = filled_network(name, checkpoint)
    digest = state_sha256(network)
    _require_unchanged(name, checkpoint, digest)
    network.eval().requires_grad_(False)
    try:
        recipe(name).settle(network)
    except ValueError as error:
        raise UsageError(f"weights of '{name}' ({checkpoint or 'registered'}): {error}") from None
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return PublishedLocalizer(name, recipe(name), network, digest, is_untrained(checkpoint), resolution)  # type: ignore[arg-type]


def recipe(name: str) -> NetworkRecipe:
    """Return the recipe that makes a localizer of a published network."""
    network_recipe: NetworkRecipe = import_module(f"{__package__}.{name}").RECIPE
    return network_recipe


def filled_network(name: str, checkpoint: str | Path | None) -> nn.Module:
    """Build the network of a published localizer with the weights of a checkpoint, or the registered ones.

    ``random`` as a ``str`` means untrained weights; as a ``Path`` it is a file of that name.

    Raises:
        UsageError: if the checkpoint cannot be used.
    """
    import torch

    from .checkpoint_files import fill
    from .released import released_state

    # a fixed seed, so that `random` means the same weights in every run; the caller's random state is restored
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = recipe(name).network()
    if not is_untrained(checkpoint):
        registration = registered(name) if checkpoint is None else None
        path = registration.path if registration else Path(str(checkpoint))
        fill(
            network,
            released_state(name, path),
            str(path),
            lambda state: guess_owner(state, expected_name=name),
        )
    return network


def guess_owner(state: Mapping[str, Tensor], *, expected_name: str) -> str:
    """Say which localizer a state dict belongs to, if it has most names of one; of ``expected_name`` itself it is a variant."""
    from .released import PSCC_PARTS

    for name in known_localizers():
        expected_keys = _official_keys(name)
        shared = len(expected_keys & {*state, *_without_first_part(state)})
        if 2 * shared > len(expected_keys) and name != expected_name:
            return f"; it looks like '{name}'"
        # a file that only lacks names may also be an incomplete one
        if 2 * shared > len(expected_keys) and state.keys() - expected_keys:
            return _variant_note(name)
        for part in PSCC_PARTS if name == "pscc" else ():
            if 2 * len(expected_keys & {f"{part}.{key}" for key in state}) > len(state):
                return f"; it looks like {part}.pth, one of three files of 'pscc': give the folder that holds them"
    return ""


def _variant_note(name: str) -> str:
    """Say that weights are of another version of a published network, and which one may be meant."""
    row = resource_json("localizers").get(name)
    if row is None:
        return ""
    example = f", such as {row['variant']}" if "variant" in row else ""
    return f"; it looks like another version of '{name}'{example}, which afbench does not have"


@cache
def _official_keys(name: str) -> frozenset[str]:
    """Return the names in a localizer's state dict, from a network without numbers."""
    import torch

    from .nets.reference_net import ReferenceNet

    with torch.device("meta"):
        network = ReferenceNet() if name == REFERENCE else recipe(name).network()
    return frozenset(network.state_dict())


def _without_first_part(names: Iterable[str]) -> Iterator[str]:
    """Yield the names without their first part, and without their first two, which may be prefixes like ``module.``."""
    for name in names:
        shorter = name.partition(".")[2]
        yield shorter
        yield shorter.partition(".")[2]


def _require_unchanged(name: str, checkpoint: str | None, weights_sha256: str) -> None:
    registration = registered(name) if checkpoint is None else None
    if registration and registration.weights_sha256 != weights_sha256:
        raise UsageError(
            f"the weights registered for '{name}' changed since they were added; `afbench weights remove {name}`, "
            "then add them again"
        )


def _require_device(device: str) -> None:
    import torch

    try:
        if torch.device(device).type not in ("cpu", "cuda"):
            raise ValueError("expected cpu or cuda")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        # torch explains what to install behind the first sentence
        reason = str(error).splitlines()[0].partition(". ")[0][:120]
        raise UsageError(f"device '{device}' cannot be used ({reason}); cpu always can") from None
