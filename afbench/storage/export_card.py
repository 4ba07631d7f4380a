"""The README of what ``export`` writes in another form than a benchmark's own: what it is, and how to read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from afbench.untrusted import visible

from .card_text import figures_table
from .config_manifest import ConfigManifest, SplitManifest
from .manifests import AUTHENTIC, CLEAN, ORIGINALS, file_patterns, splits_of
from .shard_format import path_in_format

_TITLES = {
    "hdf5": "HDF5 archive of an adversarial forgery-localization benchmark",
    "imagefolder": "Adversarial forgery-localization benchmark, as PNG files",
    "webdataset": "Adversarial forgery-localization benchmark, as WebDataset",
}
READ_HDF5 = """import io
import h5py, numpy as np
from PIL import Image

def picture(file, row, mask=""):
    start, size = file[mask + "offset"][row], file[mask + "length"][row]
    data = file["mask_data" if mask else "data"][start : start + size]
    return np.asarray(Image.open(io.BytesIO(data.tobytes())))

clean, attacked = h5py.File("{clean}"), h5py.File("{attacked}")
row = list(clean["sample_id"]).index(attacked["sample_id"][0])
original, mask = picture(clean, row), picture(clean, row, "mask_")
image = picture(attacked, 0) + original - np.uint8(128)  # wraps: residuals are modulo 256"""
"""A reader without afbench; a test runs it."""


def export_card(form: str, configs: Mapping[str, ConfigManifest], withheld: Sequence[str] = ()) -> str:
    """Write the card of an export in ``hdf5``, ``imagefolder`` or ``webdataset`` form; ``withheld``: sources without originals."""
    content = {
        "pretty_name": _TITLES[form],
        "license": "other",
        "license_name": "see-license-md",
        "license_link": "LICENSE.md",
        "task_categories": ["image-segmentation"],
        "tags": ["image-forensics", "forgery-localization", "adversarial-examples", "benchmark", "afbench"],
        **_configs(form, configs),
    }
    front = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    parts = [f"# {_TITLES[form]}", _what(form, configs, withheld), "## Figures", figures_table(configs)]
    parts += ["## Sources and their terms", *_sources(configs)]
    parts.append(
        "Attacked images are copies of their originals: whoever may not share the originals may not share these."
    )
    parts.append("Made with afbench; `MANIFEST.json` lists every file with its size and sha256.")
    return visible(f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n")


def _configs(form: str, configs: Mapping[str, ConfigManifest]) -> dict[str, Any]:
    if form == "webdataset":
        first = next((name for name in configs if name not in ORIGINALS), CLEAN)
        entries = [
            {
                "config_name": name,
                "data_files": [
                    {"split": split, "path": _tar_patterns(manifest, name, split)}
                    for split in manifest.splits
                ],
                **({"default": True} if name == first else {}),
            }
            for name, manifest in configs.items()
        ]
        return {"configs": entries}
    if form == "imagefolder":
        # named, since a file called ...-test... would otherwise make a split of its own
        files = ["metadata.parquet", "data/**/*.png"]
        return {"configs": [{"config_name": "default", "data_files": files}]}
    return {}


def _tar_patterns(manifest: ConfigManifest, config: str, split: str) -> list[str]:
    return [path.rpartition(".")[0] + ".tar" for path in file_patterns(manifest, config, split)]


def _what(form: str, configs: Mapping[str, ConfigManifest], withheld: Sequence[str]) -> str:
    attacked = next((name for name in configs if name not in ORIGINALS), CLEAN)
    split = next(iter(configs[attacked].splits), "demo")
    if form == "webdataset":
        return (
            "One tar per config and shard; a sample is `.png`, `.mask.png`, `.original.png` (of attacked images) and `.json`. "
            "A dot in a sample's name is written `~`, and a name that begins with `__` has a `+` before it; `.json` has the name "
            "itself.\n\n"
            f'```python\nfrom datasets import load_dataset\n\nrows = load_dataset("PATH/TO/THIS/FOLDER", "{attacked}", split="{split}")\n```'
        )
    if form == "imagefolder":
        return (
            "`data/<config>/<source>/<sample>.png`, masks in `data/masks`, originals in `data/clean`. `metadata.parquet` has a row per "
            "attacked image with its original, mask, parameters and figures; `table.csv` the same for people.\n\n"
            '```python\nfrom datasets import load_dataset\n\nrows = load_dataset("PATH/TO/THIS/FOLDER", split="train")\n'
            f'rows = rows.filter(lambda config: config == "{attacked}", input_columns="config")\n```'
        )
    shards = [configs[name].splits[split].shards for name in (CLEAN, attacked)]
    paths = [path_in_format(part[0].path, "hdf5") if part else "" for part in shards]
    text = (
        "Attacked images are stored as what was changed in their originals, (attacked - original + 128) mod 256, losslessly; "
        "`afbench.load` reads it, `afbench restore` makes a benchmark of it again, and so does plain h5py with Pillow:\n\n"
        f"```python\n{READ_HDF5.format(clean=paths[0], attacked=paths[1])}\n```"
    )
    if withheld:
        text += (
            f"\n\nThe originals and masks of {', '.join(withheld)} are not here. With your own copy: `afbench restore "
            f"THIS_FOLDER {' '.join(_source_option(configs, name) for name in withheld)} --out FOLDER` puts the images together, "
            "and checks every original by the hash of its pixels.\n\n"
            "Residuals are no secret-keeping: a value is shown where it lies within a change of black or white, so that outlines of "
            "clipped areas can be seen, and pages of pure black and white can be read. Of photographs under 3/255 it is well below "
            "1 % of the values."
        )
    return text


def _source_option(configs: Mapping[str, ConfigManifest], name: str) -> str:
    """Return the option that reads a source again, also one that its user has named."""
    layout = configs[CLEAN].splits.get(name, SplitManifest()).layout
    return f"--source {name}={layout}:ROOT" if layout else f"--source {name}:ROOT"


def _sources(configs: Mapping[str, ConfigManifest]) -> list[str]:
    splits = {**splits_of(configs, AUTHENTIC), **configs[CLEAN].splits}
    return ["\n".join(f"- `{name}`: {part.terms}" for name, part in sorted(splits.items()))]
