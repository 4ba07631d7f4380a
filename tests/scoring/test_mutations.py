"""Broken at random: a submission is scored or refused, never a traceback, and nothing is written for a refused one."""

import hashlib
import shutil

import numpy as np
import pytest
from submissions import as_table, make_submission, pack

from afbench.core import AfbenchError
from afbench.scoring.problems import InvalidSubmission
from afbench.scoring.score import examine

KINDS = ("folder", "zip", "tar", "tar.gz", "parquet")


@pytest.fixture(scope="module")
def originals(bench, tmp_path_factory):
    """One valid submission in every packaging."""
    folder = make_submission(tmp_path_factory.mktemp("mutate") / "submission", bench, probabilities=True)
    tables = shutil.copytree(folder, folder.with_name("tables"))
    as_table(tables, "loc/a/clean")
    return {
        "folder": folder,
        "parquet": tables,
        **{kind: pack(folder, kind) for kind in ("zip", "tar", "tar.gz")},
    }


def _flip(data, draw):
    found = bytearray(data)
    for at in draw.integers(0, max(len(data), 1), draw.integers(1, 6)):
        if found:
            found[at] ^= 1 << draw.integers(8)
    return bytes(found)


def _truncate(data, draw):
    return data[: draw.integers(0, len(data) + 1)]


def _double(data, draw):
    first, last = sorted(draw.integers(0, len(data) + 1, 2))
    return data[:last] + data[first:]


def _swap(data, draw):
    a, b, c = sorted(draw.integers(0, len(data) + 1, 3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


BYTES = (_flip, _truncate, _double, _swap)


def _mutate_folder(folder, draw):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    one, other = (files[number] for number in draw.choice(len(files), 2, replace=False))
    if draw.random() < 0.3:
        grave = [path for path in files if path.name == "manifest.json" or path.suffix == ".parquet"]
        one = grave[0] if grave and grave[0] != other else one
    way = draw.integers(4)
    if way == 0:
        one.write_bytes(BYTES[draw.integers(len(BYTES))](one.read_bytes(), draw))
    elif way == 1:
        data = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(data)
    elif way == 2:
        letters = bytes(draw.integers(1, 256, draw.integers(1, 12), dtype=np.uint8)).replace(b"/", b"_")
        one.rename(f"{one.parent}/" + letters.decode("utf-8", "surrogateescape") + "x")
    else:
        one.unlink()


def _mutated(originals, kind, number, tmp_path):
    draw = np.random.default_rng([number, *kind.encode()])
    original = originals[kind]
    target = tmp_path / original.name
    if original.is_dir():
        shutil.copytree(original, target)
        for _ in range(draw.integers(1, 4)):
            _mutate_folder(target, draw)
    else:
        data = original.read_bytes()
        for _ in range(draw.integers(1, 3)):
            data = BYTES[draw.integers(len(BYTES))](data, draw)
        target.write_bytes(data)
    return target


def check(originals, bench, tmp_path, kind, count):
    refused = 0
    for number in range(count):
        path = _mutated(originals, kind, number, tmp_path)
        before = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        try:
            examine(path, bench)
        except InvalidSubmission as invalid:
            refused += 1
            assert invalid.problems and all(line.isprintable() for line in invalid.problems.lines())
        except AfbenchError as error:
            raise AssertionError(f"{kind} {number}: {error}") from error
        if path.is_dir():
            shutil.rmtree(path)
        else:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == before
            path.unlink()
    assert list(tmp_path.iterdir()) == []
    return refused


@pytest.mark.reliability("R6")
@pytest.mark.reliability("R14")
@pytest.mark.parametrize("kind", KINDS)
def test_a_few_mutated_submissions_are_judged_without_a_traceback(originals, bench, tmp_path, kind):
    count = 4 if kind == "parquet" else 10
    assert check(originals, bench, tmp_path, kind, count) >= count // 2


@pytest.mark.reliability("R6")
@pytest.mark.reliability("R14")
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_mutated_submissions_are_judged_without_a_traceback(originals, bench, tmp_path, kind):
    assert check(originals, bench, tmp_path, kind, 400) >= 300
