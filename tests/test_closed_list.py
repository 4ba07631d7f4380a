"""No command writes into a benchmark, whose list of files is closed; its log folder is open."""

import shutil

import pytest

import afbench as library


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    out = tmp_path_factory.mktemp("closed") / "B"
    return library.generate(
        localizer="reference", attack="fgsm", phi="3/255", source="demo", limit=2, out=out, quiet=True
    )


@pytest.fixture
def folder(benchmark, tmp_path):
    """A copy to write into, named ``B``; the tests run in the folder that holds it."""
    return shutil.copytree(benchmark.folder, tmp_path / "B")


@pytest.mark.parametrize(
    "command",
    [
        "predict --data B --localizer reference --out B/new",
        "predict --data B --localizer reference --out B",
        "evaluate --data B --localizer reference --out B/new",
        "evaluate --data B --localizer reference --figure B/new.png",
        "report B --out B/new",
        "export B --to parquet --out B/new",
        "export B --to imagefolder --out B/data/new",
        "preview B --out B/new.png",
        "train hardened --data B --localizer reference --epochs 1 --crop 32 --out B/new",
        "leaderboard score --out B",
        "generate --localizer reference --attack fgsm --phi 1/255 --source demo --limit 1 --out B/new",
        "index folder --root . --out B/new.json",
    ],
)
def test_a_path_in_a_benchmark_is_refused_before_any_work(afbench, folder, command):
    files = sorted(folder.rglob("*"))
    ran = afbench(*command.split())
    assert ran.code == 2 and ("which is a closed list; use " in ran.err or "is not empty" in ran.err)
    assert sorted(folder.rglob("*")) == files


def test_the_log_of_a_benchmark_takes_what_is_made_of_it(afbench, folder):
    assert afbench("preview", "B", "--out", "B/log/sheet.png").code == 0
    assert afbench("verify", "B").code == 0


@pytest.mark.parametrize(("path", "reason"), [("nowhere", "it does not exist"), ("file", "it is a file")])
def test_a_path_that_is_no_folder_is_no_benchmark(afbench, tmp_path, path, reason):
    (tmp_path / "file").touch()
    ran = afbench("verify", path)
    assert ran.code == 2 and f"'{path}' is no benchmark: {reason}" in ran.err
