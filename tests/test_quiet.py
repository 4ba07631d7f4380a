"""Progress is for the eye: every command says the same with its bars off, and as JSON what docs/json.md lists."""

import importlib
import inspect
import io
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import click
import pytest

from afbench.cli import cli, main
from afbench.storage.verify import check_benchmark

WALK = (
    "plan --localizer reference --attack fgsm",
    "list",
    "index folder --root ROOT --full",
    "generate --localizer reference --attack fgsm --phi 1/255 --source folder:ROOT --limit 2 --out B",
    "stats B",
    "inspect B",
    "verify B",
    "verify B --deep",
    "verify B --repair",
    "reproduce B --row reference-fgsm-1/folder/photo.0",
    "preview B",
    "export B --to hdf5 --residuals-only --out archive",
    "restore archive --source folder:ROOT --out restored",
    "predict --data B --localizer reference --out submission --date 2026-01-01",
    "score submission --data B --out score",
    "compare score score",
    "leaderboard score --out site",
    "evaluate --data B --localizer reference --defence median",
    "report --paper B --all",
    "push B --to user/name --i-may-share",
    "train hardened --data B --localizer reference --method at --epochs 1 --crop 32 --out trained",
    "weights list",
    "weights remove mvss",
)
SHOWS_NOTHING = ("plan", "list", "stats", "inspect", "preview", "compare", "report", "weights")
LISTS = ("stats", "report")


def _run(line, root, *more):
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr("sys.argv", ["afbench", *line.replace("ROOT", str(root)).split(), *more])
        with pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code, err.getvalue()
    return out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def walked(made, tmp_path_factory):
    """What every command says: as text with its bars, and as JSON without."""
    answers = {}
    for mode in ("shown", "quiet"):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path_factory.mktemp(mode))
            answers[mode] = {
                line: _run(
                    line,
                    made.root,
                    "--json",
                    *(["--quiet"] if mode == "quiet" and not line.startswith(SHOWS_NOTHING) else []),
                )
                for line in WALK
            }
    return answers


def test_every_command_says_the_same_with_its_bars_off(walked):
    for line in WALK:
        assert _lasting(walked["quiet"][line][0]) == _lasting(walked["shown"][line][0]), line
        assert "%|" not in walked["quiet"][line][1] and "it/s" not in walked["quiet"][line][1]
    assert any("%|" in err for _, err in walked["shown"].values())


def _lasting(text):
    """An answer without what another run changes by itself: dates, times, free space and hashes of them."""
    return re.sub(r'"(date|added|submitted|fingerprint|free_bytes|id)": [^,\n]*', "", text)


def _documented():
    """Keys by command, as docs/json.md lists them: in backticks, before any text in brackets."""
    text = (Path(__file__).parent.parent / "docs" / "json.md").read_text(encoding="utf-8")
    rows, *sections = text.split("\n## ")
    (stats,) = (section for section in sections if section.startswith("`stats`"))
    keys = {}
    for commands, told in re.findall(r"^\| (`.*?) \| (.*) \|$", rows, re.MULTILINE):
        plain = re.sub(r"\(.*?\)|; .*", "", told)
        for command in re.findall(r"`(.*?)`", commands):
            keys[command] = set(re.findall(r"`(\w+)`", plain))
    keys["stats"] = {
        key
        for row in re.findall(r"^\| (`.*?) \|", stats, re.MULTILINE)
        for key in re.findall(r"`(\w+)`", row)
    }
    return keys


def test_every_json_answer_has_the_keys_that_the_document_lists(walked):
    keys = _documented()
    for line, (out, _) in walked["shown"].items():
        name, *arguments = line.split()
        found = json.loads(out)
        if name in LISTS:
            assert isinstance(found, list)
            found = found[0]
        options = [option for option in ("--deep", "--repair", "--paper") if option in arguments]
        command = " ".join([name, *options, *(arguments[:1] if name == "weights" else [])])
        told = keys[command] | (keys.get(name, set()) if options else set())
        if name == "score":
            assert {"aggregates", "rankable", "warnings"} <= found.keys()
        else:
            assert set(found) == told, command


def test_stats_say_what_a_config_is_without_its_name(afbench, made):
    rows = json.loads(afbench("stats", made.folder, "--json").out)
    row = next(row for row in rows if row["config"] == "reference-fgsm-3" and row["source"] == "folder")
    assert (row["localizer"], row["architecture"], row["untrained"]) == ("reference", "reference", True)
    assert (row["attack"], row["phi"], row["phi_255"], row["defence"]) == ("fgsm", "1/85", 3.0, None)
    row = next(row for row in rows if row["config"] == "reference-cw-2")
    assert (row["phi"], row["phi_255"], row["steps"], row["params"]["lr"]) == (None, None, 2, 1e-3)


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
        module = vars(importlib.import_module(command.callback.__module__))
        # a command shows progress by itself, or its function does
        functions = [inspect.unwrap(value) for value in module.values() if inspect.isfunction(value)]
        quiets = any("quiet" in inspect.signature(function).parameters for function in functions)
        if quiets or {"progress_bar", "deferred_bar", "counted_bar"} & module.keys():
            shows.add(command.name)
        if any(option.name == "quiet" for option in command.params):
            takes.add(command.name)
    assert shows == takes and len(takes) > 10
