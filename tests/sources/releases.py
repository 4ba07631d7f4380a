"""Imitated releases: the layout and the traps of each, in pictures of our own making."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from afbench.core import BadSample
from afbench.sources.entry_reader import read_bytes, read_entry
from afbench.sources.layouts import load_layout
from afbench.sources.sample_names import sample_id, without_copies
from afbench.sources.source_entry import SourceOptions

SIZE = (48, 32)
"""Width and height of most pictures."""

RED, GREEN = (255, 0, 0), (0, 255, 0)
DARK_RED, DARK_GREEN = (200, 0, 0), (0, 200, 0)


class Expected(NamedTuple):
    """What a reader must find: ids of forged samples, reasons of excluded ones, the same of authentic images."""

    included: list[str]
    excluded: dict[str, str]
    authentic: list[str] = []  # noqa: RUF012 never changed
    authentic_excluded: dict[str, str] = {}  # noqa: RUF012


def photograph(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A coloured noise picture; another for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def half_mask(size: tuple[int, int] = SIZE, *, share: float = 0.25, mode: str = "L") -> Image.Image:
    """White in the left share of its columns, black elsewhere."""
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[:, : round(size[0] * share)] = 255
    return Image.fromarray(pixels).convert(mode)


def edge_mask(size: tuple[int, int] = SIZE, *, green_from: float = 0.5, shades: bool = True) -> Image.Image:
    """Red on the left, green on the right; bright beside the seam and darker elsewhere."""
    width, height = size
    seam = round(width * green_from)
    columns = np.arange(width)
    pixels = np.zeros((height, width, 3), np.uint8)
    for side, bright, dark in ((columns < seam, RED, DARK_RED), (columns >= seam, GREEN, DARK_GREEN)):
        near = abs(columns - seam + 0.5) < (4 if shades else width)
        pixels[:, side & near] = bright
        pixels[:, side & ~near] = dark
    return Image.fromarray(pixels)


def put(root: Path, name: str, picture: Image.Image, **options: Any) -> Path:
    """Save a picture below a root, with the format of its suffix."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".jpg", ".jpeg"):
        options = {"quality": 75, **options}
    picture.save(path, **options)
    return path


def put_bytes(root: Path, name: str, data: bytes) -> Path:
    """Write any bytes below a root."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def encoded(picture: Image.Image, image_format: str, **options: Any) -> bytes:
    """A picture's file."""
    stream = io.BytesIO()
    picture.save(stream, image_format, **options)
    return stream.getvalue()


def listing(root: Path) -> list[str]:
    """All files below a root, relative, with forward slashes, sorted."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def text_reader(root: Path) -> Callable[[str], str]:
    """What layouts read their lists with."""
    return lambda relative: read_bytes(root, relative, limit=2**24).decode("utf-8")


def survey(source: str, root: Path, options: SourceOptions = SourceOptions()) -> Expected:  # noqa: B008 frozen
    """Read a whole release as ``Expected`` says it should come out."""
    entries = load_layout(source).entries(without_copies(listing(root)), text_reader(root))
    assert [entry.sample_id for entry in entries] == sorted({entry.sample_id for entry in entries})
    found = Expected([], {}, [], {})
    for entry in entries:
        forged = entry.label == "forged"
        try:
            read = read_entry(root, entry, options)
        except BadSample as problem:
            (found.excluded if forged else found.authentic_excluded)[entry.sample_id] = problem.reason
        else:
            (found.included if forged else found.authentic).append(entry.sample_id)
            assert read.sample.image.shape[:2] == read.sample.mask.shape
            assert bool(read.sample.mask.any()) == forged
    return found


def build_columbia(root: Path, *, nested: bool = False) -> Expected:
    """Coloured JPEG masks, TIFF and BMP, the band variant, stray files; ``nested``: unpacked into itself."""
    splices, authentic = (
        ("4cam_splc/4cam_splc", "4cam_auth/4cam_auth") if nested else ("4cam_splc", "4cam_auth")
    )
    size = (64, 48)

    def splice(name: str, seed: int, mask: Image.Image | None, suffix: str = ".tif") -> None:
        put(root, f"{splices}/{name}{suffix}", photograph(seed, size))
        if mask:
            put(root, f"{splices}/edgemask/{name}_edgemask.jpg", mask)

    splice("canong3_canonxt_sub_01", 1, edge_mask(size))
    splice("canonxt_kodakdcs330_sub_14", 2, edge_mask(size, green_from=0.75), ".TIF")
    splice("nikond70_kodakdcs330_sub_30", 3, edge_mask(size, green_from=0.25, shades=False), ".bmp")
    splice("nikond70_canonxt_sub_13", 4, None)
    put(root, f"{splices}/edgemask/nikond70_canonxt_sub_13_edgemask_3.jpg", edge_mask(size))
    splice("canong3_nikond70_sub_05", 5, edge_mask((60, 48)))
    splice("canong3_nikond70_sub_06", 6, edge_mask((48, 64)))
    splice("canong3_nikond70_sub_07", 7, edge_mask(size, green_from=1.0))
    splice("canong3_nikond70_sub_08", 8, edge_mask(size, green_from=0.0))
    splice("canong3_nikond70_sub_09", 9, half_mask(size))
    put(root, f"{splices}/edgemask/canong3_nikond70_sub_12_edgemask.jpg", edge_mask(size))
    splice("canonxt_kodakdcs330_sub_28", 10, edge_mask(size))
    whole = (root / splices / "canonxt_kodakdcs330_sub_28.tif").read_bytes()
    put_bytes(root, f"{splices}/canonxt_kodakdcs330_sub_28.tif", whole[: len(whole) // 2])
    put(root, f"{splices}/holiday.tif", photograph(11, size))
    exif = Image.Exif()
    exif[274] = 6
    put(root, f"{authentic}/canonxt_38_sub_06.tif", photograph(12, size), exif=exif)
    put(root, f"{authentic}/nikond70_11_sub_09.tif", photograph(13, size))
    put(root, f"{authentic}/edgemask/canonxt_38_sub_06_edgemask.jpg", edge_mask(size))
    for name in ("README.txt", f"{splices}/Thumbs.db", f"__MACOSX/{splices}/._canong3_canonxt_sub_01.tif"):
        put_bytes(root, name, b"no picture")
    return Expected(
        ["canong3_canonxt_sub_01", "canonxt_kodakdcs330_sub_14", "nikond70_kodakdcs330_sub_30"],
        {
            "canong3_nikond70_sub_05": "size_mismatch",
            "canong3_nikond70_sub_06": "rotated_mask",
            "canong3_nikond70_sub_07": "empty_mask",
            "canong3_nikond70_sub_08": "full_mask",
            "canong3_nikond70_sub_09": "empty_mask",
            "canong3_nikond70_sub_12": "missing_image",
            "canonxt_kodakdcs330_sub_28": "unreadable",
            "holiday": "unknown_name",
            "nikond70_canonxt_sub_13": "missing_mask",
        },
        ["canonxt_38_sub_06", "nikond70_11_sub_09"],
    )


CASIA_V1_MASKS = ("CASIA 1.0 groundtruth/{sub}", "mask/{sub}", "groundtruth")
"""Folders in which copies of the release keep their masks."""


def build_casia_v1(
    root: Path,
    *,
    tampered: str = "Modified Tp/Tp/{sub}",
    masks: str = CASIA_V1_MASKS[0],
    renamed: bool = False,
) -> Expected:
    """The 921st image, dots and wrong letters in names (or ``renamed``), masks of every mode, masks above half."""

    def pair(sub: str, name: str, seed: int, *, gt: str = "", suffix: str = ".jpg", **mask: Any) -> None:
        put(root, f"{tampered.format(sub=sub)}/{name}{suffix}", photograph(seed))
        put(root, f"{masks.format(sub=sub)}/{gt or name}_gt.png", half_mask(**mask))

    pair("Sp", "Sp_D_CND_A_pla0005_pla0023_0281", 1)
    pair("Sp", "Sp_D_NND_A_sec0067_ani0096_0620", 2, mode="RGB", suffix=".JPG")
    pair("CM", "Sp_S_NNN_T_txt0022_txt0022_0022", 3, mode="RGBA")
    pair("CM", "Sp_S_CND_A_pla0016_pla0016_0196", 4, share=0.75)
    # numbers at the end are shared by other images, whose masks must not be taken
    pair("CM", "Sp_S_CNN_A_sec0098_sec0098_0281", 5, share=0.5)
    # released with a dot; the masks were published with the right names
    dotted = "Sp_D_NRD_A_ani0040_ani0054_0257" if renamed else "Sp_S_NRD_A_ani0040_ani0054.0257"
    pair("Sp", dotted, 6, gt="Sp_D_NRD_A_ani0040_ani0054_0257")
    wrong = "Sp_S_NNN_A_cha0052_cha0052_0309" if renamed else "Sp_D_NNN_A_cha0052_cha0052_0309"
    pair("CM", wrong, 7, gt="Sp_S_NNN_A_cha0052_cha0052_0309")
    # a mask with a dot
    pair("Sp", "Sp_D_NNN_A_ani0099_ani0100_0288", 8, gt="Sp_D_NNN_A_ani0099_ani0100.0288")
    # a mask among those of the other kind
    put(root, f"{tampered.format(sub='CM')}/Sp_S_NNN_C_art0065_art0065_0217.jpg", photograph(9))
    put(root, f"{masks.format(sub='Sp')}/Sp_S_NNN_C_art0065_art0065_0217_gt.png", half_mask())
    # off the usual size, and right
    put(root, f"{tampered.format(sub='Sp')}/Sp_D_CRN_A_sec0069_ani0081_0400.jpg", photograph(10, (50, 31)))
    put(root, f"{masks.format(sub='Sp')}/Sp_D_CRN_A_sec0069_ani0081_0400_gt.png", half_mask((50, 31)))
    # never had a mask
    put(root, f"{tampered.format(sub='Sp')}/Sp_D_NRN_A_cha0011_sec0011_0542.jpg", photograph(11))
    put(root, f"{masks.format(sub='Sp')}/Sp_D_NRN_A_sec0013_art0029_0547_gt.png", half_mask())
    put(root, "Au/Au_pla_0023.jpg", photograph(12))
    put(root, "Au/Au_nat_0029.JPG", photograph(13))
    put_bytes(root, "Au/Au_txt_0001.jpg", b"")
    return Expected(
        sorted(
            [
                "Sp_D_CND_A_pla0005_pla0023_0281",
                "Sp_D_CRN_A_sec0069_ani0081_0400",
                "Sp_D_NND_A_sec0067_ani0096_0620",
                "Sp_D_NNN_A_ani0099_ani0100_0288",
                "Sp_D_NRD_A_ani0040_ani0054_0257",
                "Sp_S_CND_A_pla0016_pla0016_0196",
                "Sp_S_CNN_A_sec0098_sec0098_0281",
                "Sp_S_NNN_A_cha0052_cha0052_0309",
                "Sp_S_NNN_C_art0065_art0065_0217",
                "Sp_S_NNN_T_txt0022_txt0022_0022",
            ]
        ),
        {
            "Sp_D_NRN_A_cha0011_sec0011_0542": "missing_mask",
            "Sp_D_NRN_A_sec0013_art0029_0547": "missing_image",
        },
        ["Au_nat_0029", "Au_pla_0023"],
        {"Au_txt_0001": "unreadable"},
    )


def build_casia_v1plus(root: Path) -> Expected:
    """CASIA v1 with Corel's photographs beside it."""
    forged = build_casia_v1(root)
    for seed, name in enumerate(("beach/108", "beach/109", "buses/300")):
        put(root, f"corel-1k/training_set/{name}.jpg", photograph(50 + seed))
    put(root, "corel-1k/test_set/beach/190.jpg", photograph(60))
    corel = ["corel__beach__108", "corel__beach__109", "corel__buses__300"]
    return Expected(forged.included, forged.excluded, corel)


def build_casia_v2(root: Path, *, masks: str = "CASIA 2 Groundtruth") -> Expected:
    """TIFF and JPEG, every mode of mask, ``_gt3``, ``CnN``, rotated and other sizes, wrong letters, photographs twice."""

    def pair(name: str, seed: int, mask: Image.Image, *, gt: str = "", ending: str = "_gt") -> None:
        put(root, f"Tp/{name}", photograph(seed))
        put(root, f"{masks}/{gt or name.rsplit('.', 1)[0]}{ending}.png", mask)

    pair("Tp_D_CND_M_N_ani00018_sec00096_00138.tif", 1, half_mask())
    pair("Tp_D_NRN_S_N_sec00064_cha00052_11409.jpg", 2, half_mask(mode="RGBA"))
    pair("Tp_S_CnN_S_N_txt00071_txt00071_01297.tif", 3, half_mask(mode="RGB"))
    pair(
        "Tp_S_NNN_N_N_art10015_art10015_20099.jpg", 4, half_mask(), gt="Tp_S_nNN_N_N_art10015_art10015_20099"
    )
    pair("Tp_D_NRD_S_N_cha10002_cha10001_20094.jpg", 5, half_mask(), ending="_gt3")
    pair("Tp_D_NNN_S_N_cha0003_nat00040_10550.jpg", 6, half_mask())
    # images with their released names, masks with the corrected ones, and the other way round
    pair(
        "Tp_S_NRN_M_N_cha00085_ani10104_10029.tif",
        7,
        half_mask(),
        gt="Tp_D_NRN_M_N_cha00085_ani10104_10029",
    )
    pair(
        "Tp_D_NRD_S_B_pla20089_nat20043_02353.tif",
        8,
        half_mask(),
        gt="Tp_S_NRD_S_B_pla20089_nat20043_02353",
    )
    pair("Tp_D_NRD_M_N_arc20052_arc20052_02478.tif", 9, half_mask())
    pair("Tp_S_NNN_S_N_sec00012_sec00012_11230.jpg", 10, half_mask(SIZE[::-1]))
    pair("Tp_S_NRN_S_N_pla20080_pla20080_01980.tif", 11, half_mask((46, 32)))
    put(root, "Tp/Tp_S_NRN_S_O_sec00036_sec00036_00764.tif", photograph(12))
    put_bytes(root, "Tp/tp_list.txt", b"Tp_D_CND_M_N_ani00018_sec00096_00138.tif\r\n")
    put(root, "Au/Au_ani_00018.jpg", photograph(13))
    put(root, "Au/Au_arc_10129.bmp", photograph(14))
    put(root, "Au/Au_ani_10140.jpg", photograph(15))
    put(root, "Au/Au_ani_20016.jpg", photograph(16))
    put(root, "Au/Au_pla_30265.jpg", photograph(17))  # the first of its pair is not in this copy
    put(root, f"{masks}/Au_ani_00018_gt.png", half_mask(share=0))
    return Expected(
        sorted(
            [
                "Tp_D_CND_M_N_ani00018_sec00096_00138",
                "Tp_D_NNN_S_N_cha0003_nat00040_10550",
                "Tp_D_NRD_M_N_arc20052_xxx00006_02478",
                "Tp_D_NRD_S_B_pla20089_nat20043_02353",
                "Tp_D_NRD_S_N_cha10002_cha10001_20094",
                "Tp_D_NRN_M_N_cha00085_ani10104_10029",
                "Tp_D_NRN_S_N_sec00064_cha00052_11409",
                "Tp_S_CnN_S_N_txt00071_txt00071_01297",
                "Tp_S_NNN_N_N_art10015_art10015_20099",
            ]
        ),
        {
            "Tp_S_NNN_S_N_sec00012_sec00012_11230": "rotated_mask",
            "Tp_S_NRN_S_N_pla20080_pla20080_01980": "size_mismatch",
            "Tp_S_NRN_S_O_sec00036_sec00036_00764": "missing_mask",
        },
        ["Au_ani_00018", "Au_ani_10140", "Au_arc_10129", "Au_pla_30265"],
        {"Au_ani_20016": "duplicate_content"},
    )


def build_imd20(root: Path) -> Expected:
    """Two forgeries of one original, both ways of naming, z14's mask of another size, a mask with soft edges."""

    def forged(name: str, seed: int, mask: Image.Image) -> None:
        put(root, name, photograph(seed))
        put(root, f"{name.rsplit('.', 1)[0]}_mask.png", mask)

    soft = np.asarray(half_mask()).copy()
    soft[:, 12:18] = (250, 200, 128, 127, 60, 5)
    forged("1a07yi/c8tsf7x_0.jpg", 1, half_mask())
    forged("1a07yi/c8tsg2k_0.png", 2, Image.fromarray(soft))
    put(root, "1a07yi/1a07yi_orig.jpg", photograph(3))
    forged("z22/00047_fake_01.jpg", 4, half_mask(mode="RGB"))
    forged("z22/00047_fake.jpg", 5, half_mask(mode="1"))
    put(root, "z22/00047_orig.jpg", photograph(6))
    forged("z14/00030_fake.jpg", 7, half_mask((40, 32)))
    put(root, "z14/00030_orig.jpg", photograph(8))
    put(root, "z15/00031_fake.jpg", photograph(9))
    put(root, "z15/00031_orig.JPG", photograph(10))
    put(root, "z15/00032_fake_mask.png", half_mask())
    return Expected(
        ["1a07yi__c8tsf7x_0", "1a07yi__c8tsg2k_0", "z22__00047_fake", "z22__00047_fake_01"],
        {
            "z14__00030_fake": "size_mismatch",
            "z15__00031_fake": "missing_mask",
            "z15__00032_fake": "missing_image",
        },
        ["1a07yi__1a07yi_orig", "z14__00030_orig", "z15__00031_orig", "z22__00047_orig"],
    )


def build_misd(root: Path) -> Expected:
    """A mask for each object, folders named after the image or not, names with two, three and four photographs."""
    truth = "Ground Truth Masks"

    def splice(
        stem: str, seed: int, objects: list[Image.Image], *, folder: str = "", suffix: str = ".png"
    ) -> None:
        put(root, f"Sp/{stem}{suffix}", photograph(seed))
        put(root, f"{truth}/{folder or stem}/images/{stem}.png", photograph(seed))
        for number, mask in enumerate(objects):
            put(root, f"{truth}/{folder or stem}/masks/object_{number}.png", mask)

    left, right = half_mask(), Image.fromarray(np.asarray(half_mask())[:, ::-1].copy())
    splice("Sp_D_ani_0001_cha_00063_sec_00081_202", 1, [left, right])
    splice("Sp_D_ani_00031_ani_00039_sec_00095_181", 2, [left], folder="181")
    splice("Sp_D_ani_00064_sec_00052_nat_00080_pla_0007_175", 3, [left, right, half_mask(mode="RGBA")])
    splice("Sp_D_nat_00001_ani_00031_009", 4, [right], suffix=".JPG")
    splice("Sp_D_art_00005_sec_00006_010", 5, [left, half_mask((40, 32))])
    put(root, "Sp/Sp_D_art_00007_sec_00008_011.png", photograph(6))
    put(root, f"{truth}/Sp_D_art_00009_sec_00010_012/masks/a.png", left)
    splice("Sp_D_art_00011_sec_00012_013", 7, [half_mask(share=0)])
    put(root, "Au/Au_ani_0001.jpg", photograph(8))
    put(root, "Au/other name.jpg", photograph(9))
    put_bytes(root, "README", b"8 categories")
    return Expected(
        [
            "Sp_D_ani_0001_cha_00063_sec_00081_202",
            "Sp_D_ani_00031_ani_00039_sec_00095_181",
            "Sp_D_ani_00064_sec_00052_nat_00080_pla_0007_175",
            "Sp_D_nat_00001_ani_00031_009",
        ],
        {
            "Sp_D_art_00005_sec_00006_010": "size_mismatch",
            "Sp_D_art_00007_sec_00008_011": "missing_mask",
            "Sp_D_art_00009_sec_00010_012": "missing_image",
            "Sp_D_art_00011_sec_00012_013": "empty_mask",
        },
        ["Au_ani_0001", sample_id("other name")],
    )
