"""CASIA v1+: the forgeries of CASIA v1.0, with photographs of Corel-1k as authentic images.

CASIA v1.0 and v2.0 share authentic photographs: a localizer trained on one release has seen those of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from afbench.sources.sample_names import sample_id
from afbench.sources.source_entry import SourceEntry

from .casia import read_release
from .casia_v1 import RELEASE
from .picture_files import pictures, settle

EXPECTS = "the Tp folder and masks of casia_v1, and corel-1k/training_set/<class>/*.jpg"


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[SourceEntry]:
    """List the forged entries of ``casia_v1``, and one authentic entry for each photograph of Corel's training set."""
    forged = [entry for entry in read_release(RELEASE, paths) if entry.label == "forged"]
    corel = []
    for picture in pictures(paths):
        folder_names = [folder.lower() for folder in picture.folders]
        if any(name.startswith("corel") for name in folder_names) and "training_set" in folder_names:
            name = sample_id(f"corel/{picture.folders[-1]}/{picture.stem}")
            corel.append(SourceEntry(name, picture.path, label="authentic", group=name))
    return settle([*forged, *corel]) if forged else []
