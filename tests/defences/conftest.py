"""An NRP checkpoint of no training, for what only needs one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from afbench.defences.ansm.module import Ansm
from afbench.defences.nrp import FORMAT, NrpSettings


@pytest.fixture(scope="session")
def nrp_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A purifier with random weights, of localizer ``reference``; not to be changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Ansm("small")
    card = {
        "format": FORMAT,
        "localizer": {"name": "reference"},
        "data": {"configs": ["reference-fgsm-3"]},
        "settings": NrpSettings().as_json(),
    }
    path = tmp_path_factory.mktemp("nrp") / "best.safetensors"
    save_file(network.state_dict(), path, metadata={"afbench": json.dumps(card)})
    return path
