"""Attacks on forgery localizers as pure functions of a loss and an image.

Every attack takes a loss ``(N, 3, H, W) -> (N,)`` (``segpgd`` and ``cospgd`` one of each pixel, ``(N, 1, H, W)``)
and a float image in [0, 1], and returns a float image in [0, 1]. Attacks know nothing of localizers, files or afbench; all randomness comes in as tensors
(``attacks.draws`` makes them).

    from attacks import bim

    phi = torch.full((len(image), 1, 1, 1), 1 / 255)
    attacked = bim(loss, image, phi=phi, alpha=phi / 4, steps=10)
"""

from attacks.apgd import apgd
from attacks.cw import cw, cw_search
from attacks.draws import signs, uniform
from attacks.gradient import LossFn, check_image, input_gradient
from attacks.pgn import pgn
from attacks.sign import bim, fgsm, mifgsm, noise, pgd
from attacks.square import square
from attacks.strong import EnsembleMember, LossAndScoreFn, Worst, strong
from attacks.weighted import PixelLossFn, cospgd, segpgd

__all__ = [
    "EnsembleMember",
    "LossAndScoreFn",
    "LossFn",
    "PixelLossFn",
    "Worst",
    "apgd",
    "bim",
    "check_image",
    "cospgd",
    "cw",
    "cw_search",
    "fgsm",
    "input_gradient",
    "mifgsm",
    "noise",
    "pgd",
    "pgn",
    "segpgd",
    "signs",
    "square",
    "strong",
    "uniform",
]
