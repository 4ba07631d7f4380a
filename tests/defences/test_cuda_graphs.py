"""A network whose passes are replayed computes what the network computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from afbench.defences.ansm.find_write import Finder
from afbench.defences.training.cuda_graphs import replayed


def test_on_a_cpu_the_network_is_called_as_it_is() -> None:
    network = nn.Conv2d(3, 2, 3)
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(replayed(network)(image), network(image))


@pytest.mark.gpu
def test_replayed_passes_have_the_values_and_gradients_of_the_network() -> None:
    torch.manual_seed(0)
    network = Finder().cuda().train()
    weights = list(network.parameters())

    def gradients(call: nn.Module, image: Tensor) -> list[Tensor]:
        findings = call(image)
        loss = findings.forged.square().mean() + findings.attacked.mean()
        return [findings.forged.detach(), *torch.autograd.grad(loss, weights)]

    call = replayed(network)
    for side in (32, 48, 32):  # a shape is recorded once, and stays when another one is
        for _ in range(2):
            image = torch.rand(4, 3, side, side, device="cuda")
            for replay, eager in zip(gradients(call, image), gradients(network, image), strict=True):
                # sums over a batch are made in any order on a GPU: 1.6e-5 apart were seen
                torch.testing.assert_close(replay, eager, rtol=1e-2, atol=1e-4)


@pytest.mark.gpu
def test_outputs_stay_when_the_graph_is_replayed() -> None:
    call = replayed(nn.Conv2d(3, 2, 3).cuda())
    first = call(torch.rand(1, 3, 8, 8, device="cuda"))
    copy = first.detach().clone()
    call(torch.rand(1, 3, 8, 8, device="cuda"))
    assert torch.equal(first, copy)
