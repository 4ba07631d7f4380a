"""Equality with torchattacks 3.5.1 where it is right: a localizer as two-class logits with an integer mask."""

import pytest
import torch
from torch import Tensor, nn

from attacks import bim, fgsm, mifgsm, pgd
from attacks.lab import SmallLocalizer, problem, to_levels

torchattacks = pytest.importorskip("torchattacks")


class TwoClasses(nn.Module):
    """Present logits ``z`` as ``[0, z]``: cross-entropy then equals our binary cross-entropy."""

    def __init__(self, localizer: SmallLocalizer) -> None:
        super().__init__()
        self.localizer = localizer

    def forward(self, image: Tensor) -> Tensor:
        z = self.localizer(image)
        return torch.cat([torch.zeros_like(z), z], 1)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "pgd from the image", "mifgsm"])
def test_our_images_equal_those_of_torchattacks(name: str, levels: int) -> None:
    lab = problem(4)
    model = TwoClasses(lab.localizer).eval()
    eps, phi = levels / 255, lab.phi(levels)
    if name == "fgsm":
        theirs = torchattacks.FGSM(model, eps=eps)
        ours = fgsm(lab.loss, lab.image, phi=phi)
    elif name == "bim":
        theirs = torchattacks.BIM(model, eps=eps, alpha=eps / 4, steps=10)
        ours = bim(lab.loss, lab.image, phi=phi, alpha=phi / 4, steps=10)
    elif name == "mifgsm":
        theirs = torchattacks.MIFGSM(model, eps=eps, alpha=eps / 10, steps=10, decay=1.0)
        ours = mifgsm(lab.loss, lab.image, phi=phi, alpha=phi / 10, steps=10, mu=1.0)
    else:
        random_start = name == "pgd"
        theirs = torchattacks.PGD(model, eps=eps, alpha=eps / 4, steps=10, random_start=random_start)
        start = torch.zeros_like(lab.image)
        if random_start:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(levels)
                start = torch.empty_like(lab.image).uniform_(-eps, eps) / eps
        ours = pgd(lab.loss, lab.image, start=start, phi=phi, alpha=phi / 4, steps=10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(levels)
        expected = theirs(lab.image, lab.mask[:, 0].long())
    assert torch.allclose(ours, expected, rtol=0, atol=1e-12)
    assert torch.equal(to_levels(ours, lab.image), to_levels(expected, lab.image))
    assert not torch.equal(ours, lab.image)
