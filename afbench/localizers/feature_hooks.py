"""Read the outputs of modules inside a network, without changing the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn


def collect_outputs(network: nn.Module, names: Sequence[str], run: Callable[[], object]) -> list[Tensor]:
    """Run a network and return the outputs of some of its modules, in the order they are computed.

    A module that is called several times, or returns several tensors, adds several. The outputs are copies, since
    in-place activations would overwrite them; gradients flow through.
    """
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor | Sequence[Tensor]) -> None:
        outputs.extend(tensor.clone() for tensor in ([output] if isinstance(output, Tensor) else output))

    modules = [
        network.get_submodule(name) for name in names
    ]  # before the first hook: a wrong name leaves none
    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return outputs
