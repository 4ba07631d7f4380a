"""Make a defence of a user's own function or network, and load it by the name of the function that builds it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, cast

from torch import Tensor, nn

from afbench.argument_types import checks_arguments
from afbench.core import UsageError
from afbench.localizers.checkpoint_files import state_sha256
from afbench.naming import resolve_name
from afbench.plans.attack_settings import params_digest
from afbench.user_code import UserFunction, built_source_sha256, call_function, source_sha256

from .defence_check import require_sound
from .names import defence_names
from .post_names import POST
from .purifier import Param, Purifier, RandomTransform, with_seed

BUILD, SOURCE = "build", "source_sha256"
"""What is recorded of a user's own defence besides its arguments: the function's path, and the hash of its file."""


@checks_arguments
def as_defence(
    function: Callable[..., Tensor],
    *,
    name: str,
    gradient: Literal["exact", "bpda"] = "exact",
    random: bool = False,
    params: Mapping[str, Param] | None = None,
    trained_on: Sequence[str] = (),
    device: str = "cpu",
    seed: int = 0,
) -> Purifier:
    """Make a defence of a function from images to images; a network is frozen, set to evaluation mode and moved to the device.

    >>> import afbench, torch
    >>> from torch.nn import functional as F
    >>>
    >>> def build(device, sigma=1.0):  # --defence my_package.my_module:build or ...:build:sigma=0.5
    ...     weights = F.softmax(-0.5 * ((torch.arange(5.0) - 2) / sigma) ** 2, dim=0).expand(3, 1, 1, 5).to(device)
    ...
    ...     def blur(image):  # (N, 3, H, W), RGB in [0, 1]; the result has the same shape and range
    ...         rows = F.conv2d(F.pad(image, (2, 2, 2, 2), mode="reflect"), weights.to(image), groups=3)
    ...         return F.conv2d(rows, weights.to(image).transpose(2, 3), groups=3).clamp(0, 1)
    ...
    ...     return afbench.as_defence(blur, name="soft")
    >>>
    >>> build("cpu", sigma=0.5).apply(torch.ones(1, 3, 32, 48)).shape
    torch.Size([1, 3, 32, 48])

    Args:
        function: images ``(N, 3, H, W)``, RGB in [0, 1], to the same shape and range, each image by itself; a random one also
            takes a ``torch.Generator`` for each image, on the CPU, and draws from that alone.
        name: what results and configs call it.
        gradient: ``exact``, or ``bpda`` if the function cannot be differentiated: it counts as the identity in a backward pass.
        random: attacks average over fixed draws (EOT); what is evaluated draws from the image's own pixels and the seed.
        params: what else decides the output, to be recorded; the arguments of ``build`` on the command line are recorded anyway.
        trained_on: attacks or configs that training saw; figures on them are marked.
        device: of a network.
        seed: of a random defence; on the command line ``--seed``.
    Raises:
        UsageError: if the name or the gradient is none, or the function's source cannot be read.
    """
    if gradient not in ("exact", "bpda"):
        raise UsageError(f"the gradient of defence '{name}' must be exact or bpda; found '{gradient}'")
    _require_name(name)
    network = function if isinstance(function, nn.Module) else None
    if network is not None:
        network.eval().requires_grad_(False).to(device)
    purifier = Purifier(
        name=name,
        label=name,
        params={**(params or {}), SOURCE: source_sha256("defence", function)},
        apply=function,
        gradient=gradient,
        weights_sha256=state_sha256(network) if network is not None and network.state_dict() else "",
        trained_on=tuple(trained_on),
        network=network,
    )
    return with_seed(purifier, cast(RandomTransform, function), seed) if random else purifier


def load_own_defence(function: UserFunction, device: str, seed: int) -> Purifier:
    """Call a user's ``build(device, **arguments)``, check what it returns, and record how it was built.

    Raises:
        UsageError: if it cannot be imported or called, returns no defence, or the defence breaks a promise.
    """
    defence = call_function("defence", function.path, device, **function.arguments)
    if not isinstance(defence, Purifier) or SOURCE not in defence.params:
        raise UsageError(
            f"defence '{function.path}' gave a {type(defence).__name__}; return afbench.as_defence(function, name=...)"
        )
    if clash := ({BUILD, SOURCE} & function.arguments.keys()) or (
        function.arguments.keys() & defence.params.keys()
    ):
        raise UsageError(
            f"defence '{function.path}': {min(clash)} is recorded by another name; rename the argument"
        )
    if defence.random_transform is not None:
        defence = with_seed(defence, defence.random_transform, seed)
    suffix = f"-{params_digest(function.arguments)}" if function.arguments else ""
    defence = replace(
        defence,
        label=defence.name + suffix,
        params={
            BUILD: function.path,
            **function.arguments,
            **defence.params,
            SOURCE: built_source_sha256("defence", _given_code(defence), function.path),
        },
    )
    require_sound(defence, device)
    return defence


def _given_code(defence: Purifier) -> object:
    return defence.random_transform or defence.apply


def require_one_code(defence: Purifier, other: Purifier) -> None:
    """Refuse two functions that nothing recorded tells apart; ``build`` may make one twice, an object is given as it is.

    Raises:
        UsageError: if both are objects of ``as_defence``, of one name and record but of two functions.
    """
    if (
        SOURCE in defence.params
        and BUILD not in defence.params
        and _given_code(defence) is not _given_code(other)
    ):
        raise UsageError(
            f"two functions are called {defence.label}, and nothing recorded tells them apart; rename one, or give "
            "as_defence(..., params={...}) what differs"
        )


def _require_name(name: str) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", name):
        raise UsageError(f"the name of a defence must be 1 to 40 of a-z, 0-9 and -; found {name!r}")
    stem = next((text for text in defence_names() if name.startswith(f"{text}-")), None)
    if stem or name.startswith(POST) or resolve_name("defence", name, defence_names()):
        raise UsageError(
            f"the name '{name}' would look like a defence of afbench; choose another, e.g. my-{name}"
        )
