"""The classifier's encoder is the embedded localizer's."""

from importlib.resources import files

import torch
from safetensors.torch import load_file

from afbench.defences.ansm.encoders import fill_encoder
from afbench.localizers.nets.reference_net import ForensicEncoder, ReferenceNet


def test_it_sees_what_the_embedded_localizer_sees():
    torch.manual_seed(1)
    theirs, mine = ReferenceNet().eval(), ForensicEncoder().eval()
    mine.load_state_dict({name: theirs.state_dict()[name] for name in mine.state_dict()})
    picture = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = theirs.skips(picture), mine(picture)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(wanted, found, strict=True))


def test_it_starts_from_the_embedded_weights():
    path = files("afbench.localizers") / "weights" / "reference.safetensors"
    encoder = ForensicEncoder()
    fill_encoder(encoder, str(path))
    assert torch.equal(encoder.bayar, load_file(str(path))["bayar"])
