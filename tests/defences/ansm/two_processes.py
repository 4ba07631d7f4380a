"""Train in each of the processes that torchrun starts; stop after so many savings, if not 0. Called by a test."""

import os
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import torch

from afbench.defences.ansm.settings import Settings
from afbench.defences.ansm.train import train
from afbench.defences.training.processes import join_processes
from afbench.defences.training.run_files import RunFiles
from afbench.defences.training.stage import TrainingOptions
from afbench.files import commit_bytes

torch.set_num_threads(1)
loader = SourceFileLoader("lab", str(Path(__file__).with_name("conftest.py")))
lab = module_from_spec(spec_from_loader("lab", loader))
loader.exec_module(lab)

out, stop = Path(sys.argv[1]), int(sys.argv[2])
saved = []


def commit(path: Path, data: bytes) -> None:
    if path.stem == "state":
        saved.append(path)
        if stop and len(saved) > stop:
            os._exit(9)
    commit_bytes(path, data)


processes = join_processes("cpu")
assert processes.share.of == 2
settings = Settings(
    **(lab.TINY | {"batch": 4, "epochs": (2, 2)})
)  # it saves four states, and the test stops after three
card = {
    "localizer": {"name": "tiny"},
    "data": {"configs": []},
    "processes": 2,
    "settings": settings.as_json(),
}
files = RunFiles(out, card, commit, processes)
train(lab.RandomPairs(), lab.TinyLocalizer(), settings, files, TrainingOptions(save_every=1))
