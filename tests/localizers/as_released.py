"""Write weights in files as the authors of a localizer release them."""

import argparse
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDERS = {
    "HRNet": "HRNet_checkpoint",
    "NLCDetection": "NLCDetection_checkpoint",
    "DetectionHead": "head/deep",
}
"""Of PSCC-Net's parts; at any depth."""


def as_released(name: str, state: Mapping[str, Tensor], folder: Path) -> Path:
    """Write the state of a localizer's network below ``folder`` with the official names and packaging."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "pscc":
        return _three_files(state, folder / "checkpoint")
    path = folder / f"{name}{'.pt' if name == 'mvss' else '.pth'}"
    if name == "ifosn":
        noise = {f"module.osn_net.inc.conv.{part}": torch.zeros(2) for part in ("weight", "bias")}
        torch.save(noise | {f"module.det_net.{key}": value for key, value in state.items()}, path)
    elif name == "code":
        settings = argparse.Namespace(lr=1e-4, name="CoDE", sizes=[512, 512], gpu=None, resume=False)
        moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}
        optimizer = {"state": moments, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "params": [0]}]}
        torch.save({"episode": 7, "state_dict": state, "optimizer": optimizer, "args": settings}, path)
    elif name in ("mesorch", "imlvit"):
        settings = argparse.Namespace(lr=1e-4, world_size=4, if_predict_label=False, data_path="CASIA2.0")
        optimizer = {"state": {}, "param_groups": [{"lr": 5e-7, "params": [0]}]}
        torch.save(
            {"model": state, "optimizer": optimizer, "epoch": 98, "scaler": {}, "args": settings}, path
        )
    elif name == "trufor":
        path = folder / "trufor.pth.tar"
        moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}
        optimizer = {"state": moments, "param_groups": [{"lr": 1e-4, "params": [0]}]}
        best = {"best_value": np.float64(0.25), "best_key": "loss"}
        torch.save({"epoch": 81, **best, "state_dict": OrderedDict(state), "optimizer": optimizer}, path)
    else:
        torch.save(state, path)
    return path


def _three_files(state: Mapping[str, Tensor], folder: Path) -> Path:
    for part, below in FOLDERS.items():
        (folder / below).mkdir(parents=True)
        mine = {
            f"module.{key.removeprefix(f'{part}.')}": value
            for key, value in state.items()
            if key.startswith(f"{part}.")
        }
        torch.save(mine, folder / below / f"{part}.pth")
    return folder
