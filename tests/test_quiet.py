"""Progress is for the eye: every command says and makes the same with its bars off."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import click

from afbench.cli import cli
from afbench.storage.verify import check_benchmark

WALK = (
    "index folder --root ROOT --full",
    "generate --localizer reference --attack fgsm --phi 1/255 --source folder:ROOT --limit 2 --out B",
    "verify B",
    "verify B --fast --json",
    "verify B --deep --json",
    "reproduce B --row reference-fgsm-1/folder/photo.0",
    "export B --to hdf5 --residuals-only --out archive",
    "restore archive --source folder:ROOT --out restored",
    "predict --data B --localizer reference --out submission --date 2026-01-01",
    "score submission --data B --out score",
    "leaderboard score --out site",
    "evaluate --data B --localizer reference --defence median",
    "push B --to user/name --i-may-share",
    "train hardened --data B --localizer reference --method at --epochs 1 --crop 32 --out trained",
)


def _walk(afbench, root, *more):
    answers = {}
    for line in WALK:
        ran = afbench(*line.replace("ROOT", str(root)).split(), *more)
        assert ran.code == 0, ran.err
        answers[line] = ran
    return answers


def test_every_command_says_the_same_with_its_bars_off(made, afbench, monkeypatch, tmp_path):
    shown = _walk(afbench, made.root)
    (tmp_path / "quiet").mkdir()
    monkeypatch.chdir(tmp_path / "quiet")
    silent = _walk(afbench, made.root, "--quiet")
    assert {line: ran.out for line, ran in silent.items()} == {line: ran.out for line, ran in shown.items()}
    assert any("%|" in ran.err for ran in shown.values())
    assert not [ran.err for ran in silent.values() if "%|" in ran.err or "it/s" in ran.err]


def test_verify_counts_rows_without_a_bar(made):
    program = Path(sys.executable).parent / "afbench"
    done = subprocess.run(
        [program, "verify", made.folder],
        env={**os.environ, "TQDM_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith(": 28 rows checked, 0 problems\n") and done.stderr == ""
    assert check_benchmark(made.folder, level="fast").rows == 28


def test_quiet_stands_before_or_behind_the_name_of_a_command(made, afbench):
    for arguments in (("--quiet", "verify", made.folder), ("verify", made.folder, "--quiet")):
        ran = afbench(*arguments)
        assert ran.code == 0 and ran.err == "", arguments


def _commands(group, *names):
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from _commands(command, *names, name)
        else:
            yield command


def test_every_command_that_shows_progress_takes_quiet():
    shows, takes = set(), set()
    for command in _commands(cli):
        module = importlib.import_module(command.callback.__module__)
        if "progress_bar" in vars(module) or "deferred_bar" in vars(module) or "counted_bar" in vars(module):
            shows.add(command.name)
        if any(option.name == "quiet" for option in command.params):
            takes.add(command.name)
    assert shows == takes and len(takes) > 10
