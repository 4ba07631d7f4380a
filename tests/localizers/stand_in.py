"""In a network's place where only sizes, names and files matter."""

from torch import Tensor, nn


class StandIn(nn.Module):
    """One convolution, with the entry points of all published networks."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.convolution(image - 0.5)

    running_sum = forward
