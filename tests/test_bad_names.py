"""A name that is none is refused by every command that opens it: in one line, writing nothing, moving no cursor."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from afbench.core import AfbenchError
from afbench.files import json_bytes, sha256_file
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.reading.load_pairs import load
from afbench.storage.card import dataset_card
from afbench.storage.export_card import export_card
from afbench.storage.manifests import TOP, open_benchmark, read_json
from afbench.storage.shards import read_rows
from afbench.workflows.generation.generate import generate
from afbench.workflows.publishing.export import export
from afbench.workflows.request import Options

sys.path.insert(0, str(Path(__file__).parent))

from bad_names import BAD_NAMES, OBEYED

ATTACKED = "reference-noise-2"
COMMANDS = {
    "stats": ("stats", "B"),
    "stats --json": ("stats", "B", "--json"),
    "verify --fast": ("verify", "B", "--fast"),
    "verify": ("verify", "B"),
    "verify --deep": ("verify", "B", "--deep"),
    "verify --json": ("verify", "B", "--json"),
    "verify --repair": ("verify", "B", "--repair"),
    "inspect": ("inspect", "B"),
    "inspect --config": ("inspect", "B", "--config", ATTACKED),
    "preview": ("preview", "B", "--out", "out.png"),
    "export": ("export", "B", "--to", "imagefolder", "--out", "out"),
    "restore": ("restore", "B", "--source", "folder:photographs", "--out", "out"),
    "push": ("push", "B", "--to", "user/name"),
    "predict": ("predict", "--data", "B", "--localizer", "reference", "--out", "out"),
    "score": ("score", "submission", "--data", "B", "--out", "out"),
    "evaluate": ("evaluate", "--data", "B", "--localizer", "reference", "--defence", "jpeg", "--out", "out"),
    "train": ("train", "ansm", "--data", "B", "--localizer", "reference", "--out", "out"),
    "reproduce": ("reproduce", "B", "--row", f"{ATTACKED}/folder/photo0"),
    "report": ("report", "--paper", "B"),
}


@pytest.fixture(scope="module")
def bench(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("named") / "B"
    source = SourceSpec("folder", str(photographs))
    block = Block(("reference",), (source,), tuple(expand_attack("noise", phi=["2/255"])))
    generate(RunPlan("test", (block,)), out, Options(checkpoint="random"))
    return out


def _moves_the_cursor(ran: Any) -> bool:
    # progress bars draw themselves again
    return OBEYED.search(ran.out + ran.err.replace("\r", "")) is not None


def _rewritten(bench: Path, config: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a config's manifest, and make every hash of it fit as a stranger would."""
    path = bench / "manifests" / f"{config}.json"
    manifest = read_json(path)
    change(manifest)
    path.write_text(json.dumps(manifest))
    _listed(bench, path)


def _listed(bench: Path, path: Path) -> None:
    listing = read_json(bench / TOP)
    listing["files"][path.relative_to(bench).as_posix()] = {
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
    }
    (bench / TOP).write_bytes(json_bytes(listing))


def _shard(manifest: dict[str, Any]) -> dict[str, Any]:
    shard: dict[str, Any] = manifest["splits"]["folder"]["shards"][0]
    return shard


def _excluded(name: str, **other: str) -> dict[str, str]:
    return {"sample_id": name, "reason": "unreadable", "detail": "", **other}


PLACES: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "config": lambda manifest, name: manifest.update(config=name),
    "split": lambda manifest, name: manifest["splits"].update({name: manifest["splits"]["folder"]}),
    "localizer": lambda manifest, name: manifest["how"]["localizer"].update(name=name),
    "shard": lambda manifest, name: _shard(manifest).update(path=name),
    "first sample": lambda manifest, name: _shard(manifest).update(first_id=name),
    "company": lambda manifest, name: _shard(manifest).update(together=[name]),
    "sample left out": lambda manifest, name: _shard(manifest).update(excluded=[_excluded(name)]),
    "reason": lambda manifest, name: _shard(manifest).update(excluded=[_excluded("photo0", reason=name)]),
}


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("place", PLACES)
def test_no_part_of_a_manifest_may_hold_what_is_no_name(bench: Path, tmp_path: Path, place: str) -> None:
    for name in BAD_NAMES.values():
        if place == "shard" and name == "a/b":
            continue  # a path of two names
        folder = tmp_path / f"{hash(name)}"
        shutil.copytree(bench, folder)
        _rewritten(folder, ATTACKED, lambda manifest, name=name: PLACES[place](manifest, name))  # type: ignore[misc]
        with pytest.raises(AfbenchError, match="is damaged") as refused:
            open_benchmark(folder)
        assert str(refused.value).isprintable() and len(str(refused.value)) < 600


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_them_and_writes_nothing(
    afbench: Any, bench: Path, photographs: Path, tmp_path: Path, command: str
) -> None:
    shutil.copytree(photographs, tmp_path / "photographs")
    (tmp_path / "submission").mkdir()
    for number, (what, name) in enumerate(BAD_NAMES.items()):
        place = list(PLACES)[number % 3]
        shutil.rmtree(tmp_path / "B", ignore_errors=True)
        shutil.copytree(bench, tmp_path / "B")
        _rewritten(tmp_path / "B", ATTACKED, lambda manifest: PLACES[place](manifest, name))  # noqa: B023
        there = sorted(tmp_path.rglob("*"))
        ran = afbench(*COMMANDS[command])
        assert ran.code == 1, (what, place, ran)
        assert not _moves_the_cursor(ran) and "Traceback" not in ran.err
        assert sorted(tmp_path.rglob("*")) == there, what


def _is_unicode(name: str) -> bool:
    """Arrow holds nothing else."""
    return "\udcff" not in name


def _with_sample(folder: Path, name: str, path: str) -> None:
    """Give the first row of a shard another sample id, and make size and hash fit."""
    table = pq.read_table(folder / path)
    ids = [name, *table["sample_id"].to_pylist()[1:]]
    column = table.schema.get_field_index("sample_id")
    other = table.set_column(column, table.schema.field(column), pa.array(ids))
    pq.write_table(other, folder / path, compression="none", use_dictionary=False, write_page_checksum=True)
    told = {"bytes": (folder / path).stat().st_size, "sha256": sha256_file(folder / path)}
    _rewritten(folder, path.split("/")[1], lambda manifest: _shard(manifest).update(told))
    _listed(folder, folder / path)


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("config", ["clean", ATTACKED])
def test_no_row_may_name_a_sample_so(bench: Path, tmp_path: Path, config: str) -> None:
    path = f"data/{config}/folder-00000-of-00001.parquet"
    for name in filter(_is_unicode, BAD_NAMES.values()):
        folder = tmp_path / f"{hash(name)}"
        shutil.copytree(bench, folder)
        _with_sample(folder, name, path)
        for read in (lambda folder: list(read_rows(folder, [path])), lambda folder: load(folder, config)):
            with pytest.raises(AfbenchError, match="is no name") as refused:
                read(folder)
            assert str(refused.value).isprintable()


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("name", ["../../outside", "\x1b[31mred", "x" * 300])
def test_every_command_that_reads_rows_refuses_them(
    afbench: Any, bench: Path, photographs: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(bench, tmp_path / "B")
    shutil.copytree(photographs, tmp_path / "photographs")
    (tmp_path / "submission").mkdir()
    _with_sample(tmp_path / "B", name, f"data/{ATTACKED}/folder-00000-of-00001.parquet")
    reading = COMMANDS.keys() - {
        "stats",
        "stats --json",
        "inspect",
        "inspect --config",
        "report",
        "verify --json",
    }
    for command in sorted(reading - {"restore", "push"}):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        ran = afbench(*COMMANDS[command])
        assert ran.code == 1, (command, ran)
        assert not _moves_the_cursor(ran) and "Traceback" not in ran.err
    assert not list(tmp_path.parent.glob("outside*")) and not (tmp_path / "outside").exists()


@pytest.mark.parametrize("what", ["config", "split", "sample_id"])
def test_an_archive_whose_shard_names_them_is_refused(bench: Path, tmp_path: Path, what: str) -> None:
    import h5py

    archive = tmp_path / "archive"
    export(bench, archive, to="hdf5")
    (path,) = (archive / "data" / ATTACKED).glob("*.h5")
    for name in ("../../outside", "\x1b[31mred", ".."):
        with h5py.File(path, "r+") as file:
            if what == "sample_id":
                file[what][0] = name.encode()[: file[what].dtype.itemsize]
            else:
                file.attrs.modify(what, file.attrs[what].dtype.type(name.encode()))
        with pytest.raises(AfbenchError, match=r"is no name|no readable|is refused") as refused:
            load(archive, ATTACKED, originals=bench)
        assert str(refused.value).isprintable()


def test_a_long_or_odd_file_name_still_becomes_a_name() -> None:
    from afbench.sources.sample_names import sample_id
    from afbench.untrusted import is_name

    names = ["x" * 250, "x" * 251, "x" * 251 + "y", "图像" * 60, "a/b" * 90, "\x1b[31m", "a\udcffb"]
    ids = [sample_id(name) for name in names]
    assert all(map(is_name, ids)) and len(set(ids)) == len(names) and ids[0] == names[0]


def test_a_score_with_such_a_name_is_refused(tmp_path: Path) -> None:
    import pandas as pd

    from afbench.scoring.stored_scores import _check_rows

    row = {
        "localizer": "l",
        "source": "s",
        "config": "c",
        "attack": "a",
        "sample_id": "x",
        "steps": 1,
        "tp": 0,
    }
    row |= {
        "fp": 0,
        "fn": 0,
        "tn": 1,
        "phi": 0.1,
        "f1_original": 1.0,
        "f1_undefended": 1.0,
        "auc": 1.0,
        "f1_best": 1.0,
    }
    _check_rows(pd.DataFrame([row]))
    keys = ("localizer", "source", "config", "sample_id")
    for number, name in enumerate(filter(_is_unicode, BAD_NAMES.values())):
        with pytest.raises(ValueError, match="is no name"):
            _check_rows(pd.DataFrame([{**row, keys[number % 4]: name}]))


def test_text_of_a_manifest_reaches_no_terminal_either(afbench: Any, bench: Path, tmp_path: Path) -> None:
    """Details, terms and figures are words, not names: they are taken, and shown harmless."""
    shutil.copytree(bench, tmp_path / "B")
    red = "\x1b]0;mine\x07\x1b[31m\u202e\x9b2J"

    def spoil(manifest: dict[str, Any]) -> None:
        _shard(manifest)["excluded"] = [_excluded("photo9", detail=red)]
        manifest["splits"]["folder"]["terms"] = red
        manifest["how"]["localizer"]["architecture"] = red

    _rewritten(tmp_path / "B", ATTACKED, spoil)
    (tmp_path / "B" / f"{red}.txt").write_text("not listed")
    configs = open_benchmark(tmp_path / "B").configs
    for card in (dataset_card(configs), export_card("imagefolder", configs, ())):
        assert not OBEYED.search(card)
    for command, arguments in COMMANDS.items():
        ran = afbench(*arguments)
        assert not _moves_the_cursor(ran), command
        assert "Traceback" not in ran.err
    assert "\\u001b[31m" in afbench("verify", "B").out
