"""Count the gradients an attack takes, and look at the first one, without making the device wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

OnGradients = Callable[[int], None]
OnQueries = Callable[[int], None]
Result = TypeVar("Result")


class Meter:
    """Wraps a loss, and sees every gradient that autograd returns to the attack.

    ``gradients`` counts image passes. ``zero_pixels`` ``(N,)`` counts the pixels whose first gradient was
    exactly zero in all three colours: such pixels an attack cannot move. ``queries`` counts image passes without a
    gradient.
    """

    def __init__(self, on_gradients: OnGradients | None = None, on_queries: OnQueries | None = None) -> None:
        self.gradients = self.queries = 0
        self.zero_pixels: Tensor | None = None
        self._on_gradients, self._on_queries = on_gradients, on_queries

    def watch(self, loss: Callable[[Tensor], Result], images: int) -> Callable[[Tensor], Result]:
        """Return ``loss`` with every gradient counted; ``images`` is the attack's own batch size."""
        self.zero_pixels = None

        def watched(image: Tensor) -> Result:
            if image.requires_grad:
                image.register_hook(lambda gradient: self._see(gradient, images))  # type: ignore[no-untyped-call]
                return loss(image)
            self.queries += len(image)
            if self._on_queries:
                self._on_queries(len(image))
            return loss(image)

        return watched

    def _see(self, gradient: Tensor, images: int) -> None:
        if self.zero_pixels is None:
            self.zero_pixels = (gradient[:images].abs().amax(dim=1) == 0).sum(dim=(1, 2))
        self.gradients += len(gradient)
        if self._on_gradients:
            self._on_gradients(len(gradient))
