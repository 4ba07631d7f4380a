"""A small benchmark without a network, a valid submission to it, and everything a stranger may send instead."""

import base64
import hashlib
import io
import json
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from afbench.images import encode_image, pixel_sha256
from afbench.metrics import count_pixels, f1, iou
from afbench.scoring.versions import part_hashes
from afbench.storage.manifests import ids_sha256, open_benchmark, read_configs, splits_of
from afbench.storage.run_folder import commit_header, commit_record
from afbench.storage.shards import shard_path, write_shard
from afbench.workflows.generation.finalise import finalise

SHAPE = (20, 28)
IDS = {"a": ["a-0", "a-1", "a-2"], "b": ["IMG", "img"]}
"""Source ``b`` holds two samples that differ by case only: that is the benchmark's right."""
AUTHENTIC_IDS = ["real-0", "real-1"]
CONFIGS = {
    "loc-pgd-1": ("loc", "pgd", "1/255", 10),
    "loc-cw-50": ("loc", "cw", None, 50),
    "loc-noise-1": ("loc", "noise", "1/255", 1),
    "other-fgsm-1": ("other", "fgsm", "1/255", 1),
}
ADDED = {"loc-bim-1": ("loc", "bim", "1/255", 10)}
"""What a benchmark may get later."""
WEIGHTS = {"loc": "1" * 64, "other": "2" * 64}
FIRST = "predictions/loc/a/loc-pgd-1/a-0.png"
HDF5_WITH_EXTERNAL_STORAGE = zlib.decompress(
    base64.b64decode(
        "eNrr9HBx4+WS4mIAAQ4OBhYGAQZk8B8KNrCi8mHyCVCaEUp3QOkVTDBxRrCcBFRcEGo+urqQIFdXkOr/aABmTwYLhOZgGAUjEXi4OgaA"
        "6AgoH5ZKTzChqstNLM5GTo8eFNrLyMAGMYsRxoekZEZGiIADVB2MZga6jBHqPkakFMsKpEF8JiYmsDA7gwaYzwjNIwY40jcsH3BA7WVm"
        "hIk4oKlMoGs8SKDl+wAWVHX6qSXJ+gWJxcXlKWB+sJ+/C8ifMP8pMI+maXIAAAYfRF0="
    )
)
"""A data set of 64 bytes whose storage is /etc/passwd: whoever reads it reads that."""


def truth_of(source: str, sample_id: str) -> np.ndarray:
    """A rectangle, elsewhere for every sample."""
    mask = np.zeros(SHAPE, bool)
    offset = IDS[source].index(sample_id) + 3 * (source == "b")
    mask[2 + offset : 9 + offset, 3 + offset : 15 + offset] = True
    return mask


def undefended(source: str, sample_id: str, config: str) -> np.ndarray:
    """What the localizer finds without a defence: less, and some of it elsewhere, under attack."""
    moved = 2 if config == "clean" else 6
    return np.roll(truth_of(source, sample_id), moved, axis=1)


def make_benchmark(
    folder: Path,
    *,
    untrained: bool = False,
    authentic: bool = False,
    sources: tuple[str, ...] = tuple(IDS),
    configs: dict[str, tuple] | None = None,
) -> Path:
    """Two localizers, two sources, four configs and the originals; images of 20 x 28 pixels. Called again, it adds to a folder."""
    there = read_configs(folder)
    for source in sources:
        ids = IDS[source]
        if source in splits_of(there, "clean"):
            continue
        identity = {"source_sha256": "0" * 64, "ids_sha256": ids_sha256(ids), "samples": len(ids)}
        identity |= {"attack_at": "native", "shard_size": 64, "terms": "made by a test"}
        commit_header(folder, f"clean.{source}", identity)
        _commit(folder, "clean", source, [_row(source, one) for one in ids])
        if authentic:
            commit_header(folder, f"authentic.{source}", identity)
            _commit(folder, "authentic", source, [_authentic_row(source, one) for one in AUTHENTIC_IDS])
    for config, (localizer, attack, phi, steps) in (configs or CONFIGS).items():
        how = {"attack": attack, "phi": phi, "steps": steps, "params": {}, "localizer": {"name": localizer}}
        how["localizer"] |= {"weights_sha256": WEIGHTS[localizer], "threshold": 0.5, "untrained": untrained}
        header = {"config": config, "config_hash": config, "how": how, "software": {}}
        commit_header(folder, config, header)
        for source in sources:
            if source not in splits_of(there, config):
                _commit(folder, config, source, [_attacked_row(source, one, config) for one in IDS[source]])
    finalise(folder)
    return folder


def _commit(folder: Path, config: str, source: str, rows: list) -> None:
    path = shard_path(config, source, 0, 1)
    record = write_shard(folder, path, config, rows, ids_sha256=ids_sha256(IDS[source]), excluded=[])
    commit_record(folder, config, source, 0, record)


def _row(source: str, sample_id: str) -> dict:
    image = np.full((*SHAPE, 3), 100, np.uint8)
    mask = np.where(truth_of(source, sample_id), np.uint8(255), np.uint8(0))
    return {
        "sample_id": sample_id,
        "image": encode_image(image),
        "mask": encode_image(mask),
        "source": source,
        "kind": "splice",
        "group": "",
        "height": SHAPE[0],
        "width": SHAPE[1],
        "image_sha256": pixel_sha256(image),
        "mask_sha256": pixel_sha256(mask),
    }


def _authentic_row(source: str, sample_id: str) -> dict:
    mask = np.zeros(SHAPE, np.uint8)
    row = _row(source, IDS[source][0])
    return {**row, "sample_id": sample_id, "mask": encode_image(mask), "mask_sha256": pixel_sha256(mask)}


def _attacked_row(source: str, sample_id: str, config: str) -> dict:
    localizer, attack, phi, steps = {**CONFIGS, **ADDED}[config]
    truth = truth_of(source, sample_id)
    before, after = (count_pixels(undefended(source, sample_id, one), truth) for one in ("clean", config))
    nothing = dict.fromkeys(("loss_clean", "loss_adv", "psnr", "ssim", "l2", "changed"), 0.5)
    nothing |= dict.fromkeys(("linf", "zero_gradient_pixels", "unread_pixels"), 0)
    return {
        **_row(source, sample_id),
        **nothing,
        **after._asdict(),
        "localizer": localizer,
        "attack": attack,
        "phi": None if phi is None else 1 / 255,
        "steps": steps,
        "f1_clean": f1(before),
        "f1_adv": f1(after),
        "iou_clean": iou(before),
        "iou_adv": iou(after),
        "original_sha256": "0" * 64,
    }


def png(pixels: np.ndarray | Image.Image, **options: object) -> bytes:
    """Bytes of a PNG; a boolean array becomes 1-bit."""
    stream = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(stream, "PNG", **options)
    return stream.getvalue()


def defended(source: str, sample_id: str, config: str) -> np.ndarray:
    """What the submitted defence brings back."""
    return np.roll(truth_of(source, sample_id), 1 if config == "clean" else 3, axis=1)


def make_submission(
    folder: Path,
    data: Path,
    *,
    localizers: tuple[str, ...] = ("loc",),
    mask: Callable[[str, str, str], np.ndarray] = defended,
    probabilities: bool = False,
    hashes: bool = False,
    **changed: object,
) -> Path:
    """A valid submission; ``changed`` replaces keys of its manifest, ``hashes`` adds those of its configs."""
    made = read_configs(data)
    behind = {name: {**CONFIGS, **ADDED}[name][0] for name in made if name not in ("clean", "authentic")}
    configs = ["clean", *(name for name, localizer in behind.items() if localizer in localizers)]
    for localizer in localizers:
        for config in configs:
            if behind.get(config, localizer) != localizer:
                continue
            for source in made[config].splits:
                for one in IDS[source]:
                    place = f"{localizer}/{source}/{config}/{one}.png"
                    found = mask(source, one, config)
                    write(folder, f"predictions/{place}", png(found))
                    if probabilities:
                        levels = np.where(found, np.uint8(200), np.uint8(20))
                        write(folder, f"probs/{place}", png(levels))
    top = hashlib.sha256((data / "MANIFEST.json").read_bytes()).hexdigest()
    manifest = {
        "schema_version": 1,
        "submission_id": "test-1",
        "display_name": "Moved masks",
        "authors": ["A. Tester"],
        "date": "2024-05-01",
        "paper_url": "https://example.org/paper",
        "code_url": "",
        "defence": {
            "type": "shift",
            "deterministic": True,
            "seed": None,
            "trained_on": ["loc-pgd-1"],
            "params": {"pixels": 3},
            "extra_data": "",
        },
        "dataset": {"name": "tiny", "version": top[:12], "manifest_sha256": top},
        "localizers": [{"id": name, "weights_sha256": WEIGHTS[name]} for name in localizers],
        "configs": configs,
        "prediction": {"kind": "mask", "threshold": 0.5},
        "files_sha256": {},
        "afbench_version": "0.1.0",
        "attack_knowledge": "oblivious",
    }
    if hashes:
        parts = part_hashes(open_benchmark(data))
        manifest["configs_sha256"] = {config: parts[config] for config in configs}
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changed}))
    if "files_sha256" not in changed:
        rehash(folder)
    return folder


def write(folder: Path, path: str, data: bytes) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def rehash(folder: Path) -> None:
    """Let ``files_sha256`` say what is there."""
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != "manifest.json"
    }
    (folder / "manifest.json").write_text(json.dumps({**manifest_of(folder), "files_sha256": files}))


def change(folder: Path, **values: object) -> None:
    """Replace keys of the manifest; a dict is merged into the one that is there."""
    manifest = manifest_of(folder)
    for key, value in values.items():
        manifest[key] = {**manifest[key], **value} if isinstance(value, dict) else value
    (folder / "manifest.json").write_text(json.dumps(manifest))


def pack(folder: Path, kind: str, *, reverse: bool = False, top: str = "") -> Path:
    """Pack a folder as it is: ``kind`` is zip, tar or tar.gz."""
    target = folder.with_name(f"{folder.name}.{kind}")
    files = sorted((path for path in folder.rglob("*") if path.is_file()), reverse=reverse)
    names = [(path, top + path.relative_to(folder).as_posix()) for path in files]
    if kind == "zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, name in names:
                archive.write(path, name)
    else:
        with tarfile.open(target, "w:gz" if kind.endswith("gz") else "w") as archive:
            for path, name in names:
                archive.add(path, name)
    return target


def bomb_png(side: int = 13_000) -> bytes:
    """A black 1-bit square of ``side`` pixels in about 20 kB."""
    row = b"\0" * (side // 8 + 2)
    packed = zlib.compressobj(9)
    body = b"".join(packed.compress(row) for _ in range(side)) + packed.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def array_file(array: np.ndarray, *, packed: bool = False) -> bytes:
    """Bytes of a .npy, or of a .npz."""
    stream = io.BytesIO()
    if packed:
        np.savez(stream, mask=array)
    else:
        np.save(stream, array)
    return stream.getvalue()


def table(columns: dict, **options: object) -> bytes:
    """Bytes of a Parquet file."""
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, **options)
    return stream.getvalue()


def as_table(folder: Path, cell: str, **options: object) -> None:
    """Turn the PNG of a cell, such as ``loc/a/clean``, into one Parquet file."""
    place = folder / "predictions" / cell
    masks = {path.stem: path.read_bytes() for path in sorted(place.glob("*.png"))}
    shutil.rmtree(place)
    data = table({"sample_id": list(masks), "mask": list(masks.values())}, **options)
    write(folder, f"predictions/{cell}.parquet", data)
    rehash(folder)


def _put(path: str, data: bytes) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        write(folder, path, data)
        rehash(folder)

    return edit


def _drop(folder: Path) -> None:
    (folder / FIRST).unlink()
    rehash(folder)


def _link(folder: Path) -> None:
    (folder / FIRST).unlink()
    (folder / FIRST).symlink_to("/etc/passwd")


def _fifo(folder: Path) -> None:
    os.mkfifo(folder / "predictions/loc/a/loc-pgd-1/pipe.png")


def _rewrite(edit: Callable[[dict], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        manifest = manifest_of(folder)
        edit(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return apply


def _text(old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        text = (folder / "manifest.json").read_text()
        assert old in text
        (folder / "manifest.json").write_text(text.replace(old, new, 1))

    return apply


def _as_parquet(columns: dict, **options: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        shutil.rmtree(folder / "predictions/loc/a/clean")
        write(folder, "predictions/loc/a/clean.parquet", table(columns, **options))
        rehash(folder)

    return apply


MASK = png(np.zeros(SHAPE, bool))
GREY = np.zeros(SHAPE, np.uint8)
_PROBS = "probs/loc/a/clean/a-0"

BAD_FOLDERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no manifest": ("AF001", lambda folder: (folder / "manifest.json").unlink()),
    "manifest is no JSON": ("AF001", lambda folder: write(folder, "manifest.json", b"{")),
    "manifest is a list": ("AF001", lambda folder: write(folder, "manifest.json", b"[]")),
    "manifest is nested": ("AF001", lambda folder: write(folder, "manifest.json", b"[" * 100_000)),
    "manifest is binary": ("AF001", lambda folder: write(folder, "manifest.json", b"\xff\xfe")),
    "unknown key": ("AF001", lambda folder: change(folder, f1=1.0)),
    "key missing": ("AF001", _rewrite(lambda manifest: manifest.pop("authors"))),
    "key twice": ("AF001", _text("{", '{"date": "2024-01-01", ')),
    "not a number": ("AF001", _text('"threshold": 0.5', '"threshold": NaN')),
    "too large a number": ("AF001", _text('"threshold": 0.5', '"threshold": 1e999')),
    "half a letter": ("AF001", _text("Moved", "\\ud800")),
    "invisible letter": ("AF001", _text("Moved", "\\u202e")),
    "http": ("AF001", lambda folder: change(folder, paper_url="http://example.org")),
    "javascript": ("AF001", lambda folder: change(folder, code_url="javascript:alert(1)")),
    "id is a path": ("AF001", lambda folder: change(folder, submission_id="../../x")),
    "localizer named twice": (
        "AF001",
        _rewrite(lambda told: told["localizers"].append(told["localizers"][0])),
    ),
    "too many values": ("AF001", lambda folder: change(folder, configs=["clean"] * 60_000)),
    "hash in capitals": ("AF001", _rewrite(lambda told: told["files_sha256"].update({FIRST: "A" * 64}))),
    "other version": ("AF002", lambda folder: change(folder, dataset={"version": "0" * 12})),
    "other benchmark": ("AF002", lambda folder: change(folder, dataset={"manifest_sha256": "0" * 64})),
    "unknown localizer": ("AF003", _put("predictions/mvss/a/clean/a-0.png", MASK)),
    "unknown config": ("AF003", _put("predictions/loc/a/loc-pgd-9/a-0.png", MASK)),
    "unknown source": ("AF003", _put("predictions/loc/c/clean/a-0.png", MASK)),
    "unknown sample": ("AF003", _put("predictions/loc/a/clean/a-9.png", MASK)),
    "unknown file": ("AF003", _put("notes.txt", b"hello")),
    "unnamed localizer": ("AF003", _put("predictions/other/a/clean/a-0.png", MASK)),
    "unknown localizer named": (
        "AF003",
        _rewrite(lambda told: told["localizers"].append({"id": "mvss", "weights_sha256": "3" * 64})),
    ),
    "unknown config named": ("AF003", _rewrite(lambda manifest: manifest["configs"].append("mvss-pgd-1"))),
    "sample missing": ("AF004", _drop),
    "case twice": ("AF005", _put(FIRST.replace("a-0", "A-0"), MASK)),
    "in PNG and Parquet": (
        "AF005",
        _put("predictions/loc/a/clean.parquet", table({"sample_id": ["a-0"], "mask": [MASK]})),
    ),
    "Parquet names it twice": ("AF005", _as_parquet({"sample_id": ["a-0", "a-0"], "mask": [MASK, MASK]})),
    "other shape": ("AF006", _put(FIRST, png(np.zeros((28, 20), bool)))),
    "one pixel": ("AF006", _put(FIRST, png(np.zeros((1, 1), bool)))),
    "RGB": ("AF007", _put(FIRST, png(np.zeros((*SHAPE, 3), np.uint8)))),
    "RGBA": ("AF007", _put(FIRST, png(np.zeros((*SHAPE, 4), np.uint8)))),
    "palette": ("AF007", _put(FIRST, png(Image.fromarray(GREY).convert("P")))),
    "16 bits": ("AF007", _put(FIRST, png(np.zeros(SHAPE, np.uint16)))),
    "grey values": ("AF007", _put(FIRST, png(np.full(SHAPE, 128, np.uint8)))),
    "0 and 1": ("AF007", _put(FIRST, png(np.eye(*SHAPE, dtype=np.uint8)))),
    "transparent": ("AF007", _put(FIRST, png(GREY, transparency=0))),
    "animated": (
        "AF007",
        _put(FIRST, png(Image.fromarray(GREY), save_all=True, append_images=[Image.fromarray(GREY + 255)])),
    ),
    "1-bit probabilities": ("AF007", _put(f"{_PROBS}.png", MASK)),
    "npy of numbers": ("AF007", _put(f"{_PROBS}.npy", array_file(np.full(SHAPE, 0.5, np.float32)))),
    "Parquet of floats": ("AF007", _as_parquet({"sample_id": ["a-0"], "mask": [0.5]})),
    "Parquet of text": ("AF007", _as_parquet({"sample_id": ["a-0"], "mask": ["white"]})),
    "Parquet without a mask": ("AF007", _as_parquet({"sample_id": ["a-0"]})),
    "Parquet of nothing": (
        "AF007",
        _as_parquet({"sample_id": ["a-0"], "mask": pa.array([None], pa.binary())}),
    ),
    "truncated PNG": ("AF008", lambda folder: _put(FIRST, (folder / FIRST).read_bytes()[:60])(folder)),
    "JPEG": ("AF008", _put(FIRST, b"\xff\xd8\xff\xe0" + bytes(100))),
    "empty": ("AF008", _put(FIRST, b"")),
    "Parquet of noise": ("AF008", _put("predictions/loc/a/clean.parquet", b"PAR1" + bytes(99) + b"PAR1")),
    "NaN in npy": ("AF009", _put(f"{_PROBS}.npy", array_file(np.full(SHAPE, np.nan)))),
    "infinite in npz": ("AF009", _put(f"{_PROBS}.npz", array_file(np.full(SHAPE, np.inf), packed=True))),
    "above 1 in npy": ("AF009", _put(f"{_PROBS}.npy", array_file(np.full(SHAPE, 1.5, np.float16)))),
    "NaN in Parquet": ("AF009", _as_parquet({"sample_id": ["a-0"], "mask": [float("nan")]})),
    "NaN in lists in Parquet": ("AF009", _as_parquet({"sample_id": ["a-0"], "mask": [[0.5, float("nan")]]})),
    "link": ("AF010", _link),
    "linked folder": ("AF010", lambda folder: (folder / "predictions/loc/x").symlink_to("/")),
    "pipe": ("AF010", _fifo),
    "odd name": ("AF010", _put("predictions/loc/a/loc-pgd-1/a 0;rm.png", MASK)),
    "control characters": ("AF010", _put("predictions/loc/a/loc-pgd-1/\x1b[2J.png", MASK)),
    "PNG bomb": ("AF011", _put(FIRST, bomb_png())),
    "huge mask": ("AF011", _put(FIRST, MASK + bytes(500_000))),
    "npy claims 210 GB": (
        "AF011",
        _put(f"{_PROBS}.npy", array_file(GREY).replace(b"(20, 28)", b"(450000, 450000)")),
    ),
    "Parquet of too many rows": (
        "AF011",
        _as_parquet({"sample_id": ["a-0"] * 5000, "mask": [MASK] * 5000}),
    ),
    "Parquet of a large value": ("AF011", _as_parquet({"sample_id": ["a-0"], "mask": [bytes(10**6)]})),
    "object npz": ("AF012", _put(f"{_PROBS}.npz", array_file(np.array([{}]), packed=True))),
    "object npy": ("AF012", _put(f"{_PROBS}.npy", array_file(np.array([print])))),
    "HDF5 with external storage": ("AF013", _put("predictions/loc/a/clean.h5", HDF5_WITH_EXTERNAL_STORAGE)),
    "HDF5 by another name": ("AF013", _put(FIRST, HDF5_WITH_EXTERNAL_STORAGE)),
    "edited after hashing": ("AF014", lambda folder: write(folder, FIRST, MASK)),
    "file not listed": ("AF014", _rewrite(lambda manifest: manifest["files_sha256"].pop(FIRST))),
    "listed file not there": (
        "AF014",
        _rewrite(lambda told: told["files_sha256"].update({"x.png": "0" * 64})),
    ),
    "other weights": (
        "AF017",
        _rewrite(lambda told: told["localizers"][0].update({"weights_sha256": "9" * 64})),
    ),
}
"""What is wrong, the code it must get among others, and how to make it of a valid submission."""


def _zip_with(name: str, data: bytes = MASK, **attributes: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        target = pack(folder, "zip")
        info = zipfile.ZipInfo(name)
        for key, value in attributes.items():
            setattr(info, key, value)
        with zipfile.ZipFile(target, "a") as archive:
            archive.writestr(info, data)
        return target

    return make


def _tar_with(name: str, data: bytes = MASK, **attributes: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        target = pack(folder, "tar")
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for key, value in attributes.items():
            setattr(info, key, value)
        with tarfile.open(target, "a") as archive:
            archive.addfile(info, io.BytesIO(data))
        return target

    return make


def _zip_bomb(folder: Path) -> Path:
    target = pack(folder, "zip")
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("predictions/loc/a/clean/zeros.png", bytes(20_000_000))
    return target


def _gzip_bomb(folder: Path) -> Path:
    target = folder.with_name("bomb.tar.gz")
    info = tarfile.TarInfo(FIRST)
    info.size = 60_000_000
    packed = zlib.compressobj(9, wbits=31)
    with target.open("wb") as stream:
        stream.write(packed.compress(info.tobuf()))
        for _ in range(60):
            stream.write(packed.compress(bytes(1_000_000)))
        stream.write(packed.flush())
    return target


def _long_name_bomb(folder: Path) -> Path:
    """A tar whose first header announces a name of 8 GB."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 8 * 2**30 - 1
    target = folder.with_name("name.tar")
    target.write_bytes(info.tobuf() + bytes(1024))
    return target


def _many_members(folder: Path) -> Path:
    target = folder.with_name("many.zip")
    with zipfile.ZipFile(target, "w") as archive:
        for number in range(10_300):
            archive.writestr(str(number), b"")
    return target


def _overlapping(folder: Path) -> Path:
    """A zip whose directory points to the same megabyte a hundred times."""
    target = folder.with_name("overlap.zip")
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("x", os.urandom(1_000_000))
        (first,) = archive.infolist()
        for number in range(100):
            info = zipfile.ZipInfo(f"{number:03d}")
            info.file_size, info.compress_size, info.CRC = first.file_size, first.compress_size, first.CRC
            info.header_offset = first.header_offset
            archive.filelist.append(info)
    return target


def _twice(folder: Path) -> Path:
    return _zip_with(FIRST)(folder)


def _unicode_twice(folder: Path) -> Path:
    target = pack(folder, "zip")
    with zipfile.ZipFile(target, "a") as archive:
        for name in ("caf\u00e9", "cafe\u0301"):
            archive.writestr(f"predictions/loc/a/clean/{name}.png", MASK)
    return target


def _named(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        target = folder.with_name(name)
        target.write_bytes(data)
        return target

    return make


def _encrypted(folder: Path) -> Path:
    target = pack(folder, "zip")
    data = bytearray(target.read_bytes())
    first = data.index(b"PK\x01\x02")
    data[first + 8] |= 1
    target.write_bytes(data)
    return target


_LINK = (0o120777 << 16) | 0x20

BAD_ARCHIVES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "zip traversal": ("AF010", _zip_with("../../evil.png")),
    "zip absolute": ("AF010", _zip_with("/etc/evil.png")),
    "zip drive": ("AF010", _zip_with("C:/evil.png")),
    "zip backslash": ("AF010", _zip_with("..\\evil.png")),
    "zip link": ("AF010", _zip_with("link.png", b"/etc/passwd", external_attr=_LINK, create_system=3)),
    "tar traversal": ("AF010", _tar_with("../evil.png")),
    "tar absolute": ("AF010", _tar_with("/evil.png")),
    "tar link": ("AF010", _tar_with("x.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "tar hard link": ("AF010", _tar_with("x.png", b"", type=tarfile.LNKTYPE, linkname="manifest.json")),
    "tar device": ("AF010", _tar_with("x.png", b"", type=tarfile.CHRTYPE)),
    "zip twice": ("AF005", _twice),
    "zip Unicode twice": ("AF005", _unicode_twice),
    "zip of bzip2": ("AF008", _zip_with("x.png", compress_type=zipfile.ZIP_BZIP2)),
    "zip encrypted": ("AF008", _encrypted),
    "zip ratio": ("AF011", _zip_bomb),
    "tar.gz ratio": ("AF011", _gzip_bomb),
    "tar long name": ("AF011", _long_name_bomb),
    "too many members": ("AF011", _many_members),
    "members that overlap": ("AF011", _overlapping),
    "HDF5 file": ("AF013", _named("submission.h5", HDF5_WITH_EXTERNAL_STORAGE)),
    "some other file": ("AF008", _named("submission.zip", b"hello" * 200)),
    "empty file": ("AF008", _named("submission.tar", b"")),
    "zip of nothing": ("AF001", _named("empty.zip", b"PK\x05\x06" + bytes(18))),
}
"""What is wrong, the code it must get among others, and how to pack it from a valid submission."""
