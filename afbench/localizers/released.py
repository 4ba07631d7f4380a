"""Read a checkpoint as its authors released it, under the names of the network's own state."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from afbench.core import UsageError

from .checkpoint_files import read_state

PSCC_PARTS = ("HRNet", "NLCDetection", "DetectionHead")
"""The files of PSCC-Net's release; each holds one part of the network."""
_DETECTOR, _ONLINE_NOISE = "det_net.", "osn_net."


def released_state(name: str, path: Path) -> dict[str, Tensor]:
    """Read a released checkpoint, or one that afbench wrote, under the names that the network uses.

    It removes nesting and prefixes like ``read_state``, and IF-OSN's ``det_net.``; IF-OSN's ``osn_net.`` entries belong to
    another network and are dropped. It finds PSCC-Net's three files in a folder at any depth.

    Raises:
        UsageError: if a file is missing, damaged or unsafe.
    """
    if name == "pscc" and path.is_dir():
        return {
            f"{part}.{key}": value
            for part in PSCC_PARTS
            for key, value in read_state(_only_match(path, f"{part}.pth")).items()
        }
    if path.is_dir():
        raise UsageError(f"checkpoint '{path}' is a folder; localizer '{name}' is released as one file")
    state = read_state(path)
    # only where every name has one of both prefixes: a checkpoint that afbench wrote has neither
    if name == "ifosn" and _all_start(state, (_DETECTOR, _ONLINE_NOISE)):
        return {
            key.removeprefix(_DETECTOR): value
            for key, value in state.items()
            if not key.startswith(_ONLINE_NOISE)
        }
    return state


def _all_start(names: Iterable[str], prefixes: tuple[str, ...]) -> bool:
    return all(name.startswith(prefixes) for name in names)


def _only_match(folder: Path, name: str) -> Path:
    matches = sorted(folder.rglob(name))
    if len(matches) != 1:
        problem = (
            f"is there {len(matches)} times ({', '.join(map(str, matches[:3]))})" if matches else "is missing"
        )
        raise UsageError(
            f"checkpoint '{folder}': {name} {problem}; PSCC-Net is released as {', '.join(f'{part}.pth' for part in PSCC_PARTS)}"
        )
    return matches[0]
