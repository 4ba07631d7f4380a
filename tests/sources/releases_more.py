"""Small imitations of COVERAGE, NIST16, DSO-1, Korus, CocoGlide and AutoSplice, one planted trap for each of theirs.

All pictures are noise made here. How many pixels a mask marks follows from a key, so that a test sees whose mask it is.
"""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from releases import Expected, listing, photograph, put, put_bytes, text_reader

from afbench.core import BadSample
from afbench.sources.entry_reader import read_entry
from afbench.sources.layouts import load_layout
from afbench.sources.source_entry import SourceEntry, SourceOptions

WIDTH, HEIGHT = 24, 16


def forged_pixel_count(key: str) -> int:
    """How many pixels the mask of a key marks."""
    return 1 + zlib.crc32(key.encode()) % 300


def put_picture(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Noise that is another for every name."""
    put(path.parent, path.name, photograph(zlib.crc32(str(path).encode()), size))


def put_mask(
    path: Path, key: str, size: tuple[int, int] = (WIDTH, HEIGHT), ink: int = 255, paper: int = 0
) -> None:
    """A grey mask with ``forged_pixel_count(key)`` pixels of ``ink``; the keys ``none`` and ``all`` stand for no pixel and every pixel."""
    pixels = np.full(size[0] * size[1], paper, np.uint8)
    pixels[: {"none": 0, "all": pixels.size}.get(key, forged_pixel_count(key))] = ink
    put(path.parent, path.name, Image.fromarray(pixels.reshape(size[1], size[0])))


def list_entries(source: str, root: Path) -> dict[str, SourceEntry]:
    """Entries of a source over a folder on disk, by id."""
    found = load_layout(source).entries(listing(root), text_reader(root))
    return {entry.sample_id: entry for entry in found}


def forged_pixels(source: str, root: Path, options: SourceOptions | None = None) -> dict[str, int]:
    """How many pixels the mask of every included forgery marks."""
    found = {}
    for sample_id, entry in list_entries(source, root).items():
        try:
            sample = read_entry(root, entry, options or SourceOptions()).sample
        except BadSample:
            continue
        if entry.label == "forged":
            found[sample_id] = int((sample.mask == 255).sum())
    return found


def build_coverage(root: Path) -> Expected:
    """Masks of other sizes, copy and paste masks beside the one that counts, and upper-case names."""
    for number in range(1, 10):
        put_picture(root / f"image/{number}.tif")
        put_picture(root / f"image/{number}t.{'TIF' if number == 2 else 'tif'}")
        put_mask(root / f"mask/{number}copy.tif", "copy")
        put_mask(root / f"mask/{number}paste.tif", "paste")
    for number in (1, 2, 10):
        put_mask(root / f"mask/{number}forged.tif", f"{number}t")
    put_mask(root / "mask/4forged.tif", "4t", size=(WIDTH + 2, HEIGHT))
    put_mask(root / "mask/5forged.tif", "5t", size=(HEIGHT, WIDTH))
    put_mask(root / "mask/6forged.tif", "none")
    put_mask(root / "mask/7forged.tif", "all")
    put_mask(root / "mask/8forged.tif", "8t")
    put_mask(root / "mask/8forged.png", "8t")
    put_mask(root / "mask/9forged.tif", "9t")
    put_bytes(root, "image/9t.tif", (root / "image/9t.tif").read_bytes()[:60])
    put_bytes(root, "image/._1t.tif", b"left behind by an archive")
    put_bytes(root, "label/1.mat", b"MATLAB")
    return Expected(
        included=sorted({"1t", "2t"}),
        excluded={
            "3t": "missing_mask",
            "4t": "size_mismatch",
            "5t": "rotated_mask",
            "6t": "empty_mask",
            "7t": "full_mask",
            "8t": "ambiguous_mask",
            "9t": "unreadable",
            "10forged": "missing_image",
        },
        authentic=sorted(str(number) for number in range(1, 10)),
    )


NIST_HEADER = (
    "TaskID|ProbeFileID|ProbeFileName|IsTarget|BaseFileName|ProbeMaskFileName|"
    "IsManipulationTypeRemoval|IsManipulationTypeSplice|IsManipulationTypeCopyClone"
)


def nist_row(probe: str, mask: str, base: str = "world/NC2016_8000.jpg", kind: str = "S") -> str:
    flags = "|".join("Y" if kind == one else "N" for one in "RSC")
    return f"manipulation|id|{probe}|{'Y' if mask else 'N'}|{base}|{mask}|{flags}"


def build_nist16(root: Path) -> Expected:
    """Numbers that never match, black masks, CRLF, names of the table that are not there or lead out."""
    folder = "reference/manipulation/mask"
    # sorted by name, every mask would meet another probe
    pairs = {"0003": "3941", "0128": "3942", "0002": "3943", "0001": "3944"}
    rows = [NIST_HEADER]
    for kind, (probe, mask) in zip("SRCS", pairs.items(), strict=True):
        put_picture(root / f"probe/NC2016_{probe}.{'JPG' if probe == '0002' else 'jpg'}")
        put_mask(root / f"{folder}/NC2016_{mask}.png", f"NC2016_{probe}", ink=0, paper=255)
        rows.append(nist_row(f"probe/NC2016_{probe}.jpg", f"{folder}/NC2016_{mask}.png", kind=kind))
    rows.append(rows[-1])  # said twice
    for probe in ("0200", "0201", "0202", "0203", "0204"):
        put_picture(root / f"probe/NC2016_{probe}.jpg")
    rows.append(nist_row("probe/NC2016_0200.jpg", ""))
    rows.append(nist_row("probe/NC2016_0201.jpg", f"{folder}/NC2016_4040.png"))
    rows.append(nist_row("probe/NC2016_0202.jpg", "../../NC2016_4041.png"))
    rows.append(nist_row("probe/NC2016_0203.jpg", f"{folder}/NC2016_3941.png"))
    rows.append(nist_row("probe/NC2016_0203.jpg", f"{folder}/NC2016_3942.png"))
    rows.append(nist_row("probe/NC2016_0300.jpg", f"{folder}/NC2016_3944.png"))
    put_mask(root / f"{folder}/NC2016_3999.png", "none", ink=0, paper=255)
    put_mask(root / "reference/removal/mask/NC2016_5000.png", "of another task")
    for world in ("8000", "8001"):
        put_picture(root / f"world/NC2016_{world}.jpg")
    (root / "reference/manipulation/NC2016-manipulation-ref.csv").write_bytes("\r\n".join(rows).encode())
    (root / "reference/removal/NC2016-removal-ref.csv").write_text(NIST_HEADER)
    return Expected(
        included=sorted(f"NC2016_{probe}" for probe in pairs),
        excluded={
            "NC2016_0201": "missing_mask",
            "NC2016_0202": "outside_root",
            "NC2016_0203": "ambiguous_mask",
            "NC2016_0204": "unlisted",
            "NC2016_0300": "missing_image",
            "NC2016_3999": "missing_image",
        },
        authentic=sorted({"NC2016_0200", "NC2016_8000", "NC2016_8001"}),
    )


def build_dso1(root: Path) -> Expected:
    """Inverted masks under the very names of their images."""
    masks = root / "DSO-1-Fake-Images-Masks"
    for number in range(1, 7):
        put_picture(root / f"DSO-1/splicing-{number:02d}.png")
        put_picture(root / f"DSO-1/normal-{number:02d}.png")
    for number in (1, 2, 99):
        put_mask(masks / f"splicing-{number:02d}.png", f"splicing-{number:02d}", ink=0, paper=255)
    put_mask(masks / "splicing-03.png", "none", ink=0, paper=255)
    put_mask(masks / "splicing-04.png", "all", ink=0, paper=255)
    put_mask(masks / "splicing-05.png", "splicing-05", size=(HEIGHT, WIDTH), ink=0, paper=255)
    return Expected(
        included=sorted({"splicing-01", "splicing-02"}),
        excluded={
            "splicing-03": "empty_mask",
            "splicing-04": "full_mask",
            "splicing-05": "rotated_mask",
            "splicing-06": "missing_mask",
            "splicing-99": "missing_image",
        },
        authentic=sorted(f"normal-{number:02d}" for number in range(1, 7)),
    )


def build_korus(root: Path) -> Expected:
    """Upper-case suffixes, one name with two cameras, masks of three levels with noise in the black."""
    root = root / "data-images"
    for camera, name in (
        ("Canon_60D", "DPP0012"),
        ("Nikon_D90", "DPP0012"),
        ("Nikon_D90", "r1f.2t"),
        ("Sony_A57", "DSC1"),
    ):
        put_picture(root / camera / "pristine" / f"{name}.TIF")
        put_picture(root / camera / "tampered-realistic" / f"{name}.TIF")
        if camera == "Sony_A57":
            continue
        mask = root / camera / "ground-truth" / f"{name}.PNG"
        put_mask(mask, f"{camera}__{name}", ink=60, paper=8)
        levels = np.array(Image.open(mask))
        levels[0, 0] = 255
        Image.fromarray(levels).save(mask)
    put_mask(root / "Sony_A57/ground-truth/DSC2.PNG", "DSC2")
    names = ("Canon_60D__{}DPP0012", "Nikon_D90__{}DPP0012", "Nikon_D90__{}r1f.2t", "Sony_A57__{}DSC1")
    return Expected(
        included=sorted(name.format("") for name in names[:3]),
        excluded={"Sony_A57__DSC1": "missing_mask", "Sony_A57__DSC2": "missing_image"},
        authentic=sorted(name.format("pristine__") for name in names),
    )


COCOGLIDE_CLASSES = {114871: "dining table", 1148: "zebra", 9: "traffic light", 57: "cat", 58: "hot dog"}


def build_cocoglide(root: Path, as_id: Callable[[str], str]) -> Expected:
    """Names that only the COCO id joins, one id within another, classes with spaces, one id with two masks."""
    for coco_id, name in COCOGLIDE_CLASSES.items():
        fake = f"glide_inpainting_val2017_{coco_id}_up"
        put_picture(root / f"fake/{fake}.png")
        put_picture(root / f"real/{name}_{coco_id}.png")
        if name != "cat":
            put_mask(root / f"mask/{name}_{coco_id}_mask.png", fake, ink=1)
    put_mask(root / "mask/bun_58_mask.png", "bun")
    put_mask(root / "mask/dog_7_mask.png", "dog")
    (root / "table.csv").write_text("real,fake,mask,prompt\n")
    fakes = [f"glide_inpainting_val2017_{coco_id}_up" for coco_id in COCOGLIDE_CLASSES]
    return Expected(
        included=sorted(fakes[:3]),
        excluded={fakes[3]: "missing_mask", fakes[4]: "ambiguous_mask", "dog_7_mask": "missing_image"},
        authentic=sorted(as_id(f"{name}_{coco_id}") for coco_id, name in COCOGLIDE_CLASSES.items()),
    )


def build_autosplice(root: Path) -> Expected:
    """One mask for several forgeries at two qualities, one of which has another size."""
    included = set()
    for quality in (100, 75):
        for name in ("62981_0", "62981_1", "62981_12", "6298_0"):
            put_picture(root / f"Forged_JPEG{quality}/{name}.jpg")
            included.add(f"Forged_JPEG{quality}__{name}")
    put_picture(root / "Forged_JPEG100/62981_2.jpg", size=(WIDTH, HEIGHT + 1))
    put_picture(root / "Forged_JPEG100/7_0.jpg")
    for name in ("62981", "6298", "8"):
        put_picture(root / f"Authentic/{name}.jpg")
        put_mask(root / f"Mask/{name}_mask.png", name, ink=1)
    return Expected(
        included=sorted(included),
        excluded={
            "Forged_JPEG100__62981_2": "size_mismatch",
            "Forged_JPEG100__7_0": "missing_mask",
            "8_mask": "missing_image",
        },
        authentic=sorted({"Authentic__62981", "Authentic__6298", "Authentic__8"}),
    )
