"""One process or several: which device this one has, and what they tell one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from afbench.core import UsageError

from .pairs import Batch, Share


@dataclass(frozen=True)
class Processes:
    """The processes of a training. Each takes its share of every batch; gradients are averaged over all."""

    device: torch.device
    share: Share
    accelerator: Any

    @property
    def main(self) -> bool:
        """Say whether this is the process that writes files and shows progress."""
        return self.share.rank == 0

    def wrap(self, network: nn.Module) -> Callable[..., Any]:
        """Return the network as training calls it; with several processes its gradients are averaged."""
        if self.share.of == 1:  # nothing to average
            return network
        return self.accelerator.prepare_model(network)  # type: ignore[no-any-return]

    def move(self, batch: Batch) -> Batch:
        """Bring a batch to the device of this process, in the memory order of its network."""
        moved = (image.to(self.device) for image in batch)
        return Batch(*(image.contiguous(memory_format=torch.channels_last) for image in moved))

    def mean(self, value: Tensor) -> float:
        """Return the mean of a number over all processes, the same on each."""
        if self.share.of == 1:
            return float(value)
        return float(self.accelerator.reduce(value.double(), "mean"))

    def ratio(self, total: float, count: int) -> float:
        """Divide the sum of all processes' totals by the sum of their counts."""
        if self.share.of == 1:
            return total / max(1, count)
        pair = torch.tensor([total, float(count)], device=self.device).double()
        sums = self.accelerator.reduce(pair, "sum")
        return float(sums[0] / sums[1].clamp(min=1.0))

    def share_weights(self, network: nn.Module) -> None:
        """Give every process the main one's weights and statistics: batch norm counts each process's own images."""
        if self.share.of > 1:
            for value in network.state_dict().values():
                torch.distributed.broadcast(value, 0)

    def wait(self) -> None:
        """Wait until every process is here."""
        self.accelerator.wait_for_everyone()


def join_processes(device: str) -> Processes:
    """Join the processes that ``accelerate launch`` or ``torchrun`` started, or be the only one.

    Args:
        device: ``cpu``, ``cuda`` (each process its own), or ``cuda:1``.
    Raises:
        UsageError: if accelerate is missing or the device cannot be used.
    """
    try:
        from accelerate import Accelerator
    except ImportError:
        raise UsageError("training needs accelerate: pip install 'afbench[train]'") from None
    try:
        requested = torch.device(device)
        torch.empty(0, device=requested)  # a driver that is missing shows here
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise UsageError(f"device '{device}' cannot be used ({reason}); cpu always can") from None
    accelerator = Accelerator(cpu=requested.type == "cpu", mixed_precision="no")
    # one process takes cuda:1 where that is asked for; of several, each has its own
    own_device = accelerator.device if accelerator.num_processes > 1 or requested.index is None else requested
    return Processes(own_device, Share(accelerator.process_index, accelerator.num_processes), accelerator)
