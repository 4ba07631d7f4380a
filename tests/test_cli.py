"""The command line: bad input in one line, help whose examples run, answers a program can read."""

import importlib
import json
import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from afbench.cli import cli

COMMANDS = (
    "generate",
    "plan",
    "list",
    "index",
    "verify",
    "inspect",
    "reproduce",
    "stats",
    "preview",
    "export",
    "restore",
    "push",
    "evaluate",
    "train",
    "predict",
    "score",
    "compare",
    "leaderboard",
    "report",
    "check-attack",
    "weights",
)
HELPS = [
    (),
    *((name,) for name in COMMANDS),
    *(("weights", verb) for verb in ("list", "add", "remove", "check")),
    ("train", "ansm"),
]
PLAN = ("--localizer", "reference", "--attack", "fgsm")
GENERATE = ("generate", *PLAN, "--limit", "1")


def run_alone(*arguments, cwd):
    """The installed command, in a process of its own."""
    program = Path(sys.executable).parent / "afbench"
    return subprocess.run(
        [program, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


def example(*command):
    """The arguments of the example that a command's help ends with."""
    shown = CliRunner().invoke(cli, [*command, "--help"], prog_name="afbench", terminal_width=78)
    assert shown.exit_code == 0
    arguments = shlex.split(shown.stdout.rpartition("Example: ")[2])
    assert arguments[0] == "afbench"
    return arguments[1:]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """What the example of ``afbench generate --help`` makes, of one image, in few steps and in an empty folder."""
    folder = tmp_path_factory.mktemp("cli")
    arguments = example("generate")
    arguments[arguments.index("--limit") + 1] = "1"
    arguments[arguments.index("--steps") + 1] = "5"
    arguments[arguments.index("--out") + 1] = "made"
    done = run_alone(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "1 configs in made" in done.stdout and "load_dataset" in done.stdout
    return folder / "made"


def assert_refused(ran, told, root, before):
    lines = ran.err.splitlines()
    errors = [line for line in lines if line.startswith("afbench: error: ")]
    assert ran.code == 2 and len(errors) == 1, ran.err
    assert told in errors[0]
    assert [line for line in lines if line not in errors] in ([], [lines[0]]) and lines[-1] == errors[0]
    if len(lines) == 2:
        assert lines[0].startswith("no --source given")
    assert ran.out == "" and sorted(root.rglob("*")) == before


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("command", ["plan", "generate"])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--localizer", "reference", "--attack", "fsgm"), "attack 'fsgm' is unknown; did you mean fgsm"),
        (("--localizer", "reference", "--attack", "AutoAttack"), "use --attack strong"),
        (("--localizer", "reference", "--attack", "DIFGSM"), "--attack torchattacks:DIFGSM"),
        (
            ("--localizer", "referense", "--attack", "fgsm"),
            "localizer 'referense' is unknown; did you mean reference? known",
        ),
        ((*PLAN, "--source", "casia"), "source 'casia' is unknown; did you mean casia_v1 or casia_v2"),
        ((*PLAN, "--source", "folder"), "source 'folder' needs its root"),
        ((*PLAN, "--phi", "0"), "phi must be above 0"),
        ((*PLAN, "--phi", "-1/255"), "phi must be above 0"),
        ((*PLAN, "--phi", "1.5"), "phi must be above 0 and at most 1"),
        ((*PLAN, "--phi", "1/0"), "phi must be a number such as 1/255"),
        ((*PLAN, "--phi", "3"), "did you mean 3/255? found '3'"),
        ((*PLAN, "--eps", "3"), "No such option '--eps'; use --phi, e.g. --phi 3/255"),
        ((*PLAN, "--phi", "1"), "did you mean 1/255? --large-phi runs it anyway"),
        ((*PLAN, "--phi", "1/255", "--phi", "1/255"), "setting 'fgsm-1' is asked for twice"),
        ((*PLAN, "--steps", "3"), "none of the attacks fgsm takes --steps; leave it out"),
        (
            ("--localizer", "reference", "--attack", "bim", "--steps", "3"),
            "their iterations are --param steps=N",
        ),
        (("--localizer", "reference", "--attack", "cw", "--steps", "0"), "steps must be a whole number"),
        (("--localizer", "reference", "--attack", "cw", "--phi", "1/255"), "cw takes --steps"),
        ((*PLAN, "--param", "steps=3"), "has a parameter 'steps'"),
        ((*PLAN, "--param", "steps"), "--param must be name=value"),
        (
            ("--localizer", "reference", "--attack", "bim", "--param", "steps=3", "--param", "steps=40"),
            "--param gives steps twice: 3 and 40; give it once",
        ),
        (
            ("--localizer", "reference", "--attack", "bim", "--where", "all", "--param", "where=forged"),
            "--param gives where twice: forged and all",
        ),
        (
            ("--localizer", "reference", "--attack", "my_module:build:steps=3:steps=4"),
            "'my_module:build:steps=3:steps=4' gives steps twice: 3 and 4",
        ),
        (("--localizer", "reference", "--attack", "bim", "--param", "steps=inf"), "steps must be a number"),
        ((*PLAN, "--seed", "-1"), "seed must be from 0"),
        ((*PLAN, "--limit", "0"), "limit must be at least 1"),
        ((*PLAN, "--limit", "few"), "'few' is not a valid integer"),
        ((*PLAN, "--colour", "red"), "--colour"),
        (("--plan", "demo", "--limit", "0"), "limit must be at least 1"),
        (("--plan", "demo", "--attack", "fgsm"), "--plan already names"),
        (("--plan", "demo", "--only", "mvss"), "plan 'demo' has no 'mvss'"),
        ((*PLAN, "--only", "mvss"), "--only takes a part of a --plan"),
        (("--plan", "dmeo"), "no file and no shipped plan; did you mean demo? shipped plans: ansm-"),
        (("--plan", "bad.yaml"), "'phy' was unexpected"),
        (("--plan", "demo", "--source", "folder:x"), "plan 'demo' has no source 'folder'"),
        ((), "give --localizer and --attack, or --plan"),
    ],
)
def test_a_bad_option_is_one_line_and_nothing_is_written(afbench, tmp_path, command, arguments, told):
    (tmp_path / "bad.yaml").write_text(
        "name: x\nblocks:\n- {localizers: [reference], sources: [demo], attacks: [{attack: fgsm, phy: [1]}]}\n"
    )
    before = sorted(tmp_path.rglob("*"))
    assert_refused(afbench(command, *arguments), told, tmp_path, before)


@pytest.mark.reliability("R4")
@pytest.mark.reliability("R6")
@pytest.mark.reliability("R7")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*GENERATE, "--out", "file"), "--out 'file' is a file; give a folder"),
        ((*GENERATE, "--out", "file/below"), "lies below a file"),
        ((*GENERATE, "--out", "full"), "--out 'full' holds something that is no benchmark"),
        ((*GENERATE, "--checkpoint", "none.pt"), "checkpoint 'none.pt' does not exist"),
        ((*GENERATE, "--checkpoint", "bomb.pt"), "could run code"),
        ((*GENERATE, "--checkpoint", "other.safetensors"), "is of another network"),
        (
            (*GENERATE, "--checkpoint", "file"),
            "checkpoint 'file' is a text file; give the file of the weights",
        ),
        ((*GENERATE, "--device", "toaster"), "device 'toaster' cannot be used"),
        ((*GENERATE, "--batch-size", "0"), "--batch-size must be at least 1; found 0"),
        ((*GENERATE, "--shard-size", "-1"), "--shard-size must be at least 1; found -1"),
        ((*GENERATE, "--image-format", "jpeg"), "'jpeg' is not one of 'webp', 'png'"),
        ((*GENERATE, "--localizer-name", "../evil"), "--localizer-name must match"),
        ((*GENERATE, "--source", "folder:nowhere"), "source folder: 'nowhere' is no folder"),
        ((*GENERATE, "--source", "casia_v1"), "source 'casia_v1' is read from your own copy"),
        (("verify", "full"), "'full' is no benchmark: MANIFEST.json is missing"),
        (("stats", "nowhere"), "'nowhere' is no benchmark"),
        (("preview", "full"), "'full' is no benchmark"),
        (("verify",), "Missing argument 'FOLDER'; for example: afbench verify afbench-out/demo"),
        (
            ("reproduce", "x"),
            "Missing option '--row'; for example: afbench reproduce afbench-out/demo --row ",
        ),
        ((*GENERATE, "--source", "."), "for your own images there write folder:."),
        (("list", "networks"), "'networks' is not one of"),
        (("genrate",), "No such command 'genrate'; did you mean generate?"),
        (("train", "amsn"), "No such command 'amsn'; did you mean ansm?"),
        (("xyzzy",), "No such command 'xyzzy'; `afbench --help` lists"),
        (("predict", "--model", "x"), "No such option '--model'; use --localizer"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_nothing_is_written(afbench, tmp_path, arguments, told):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps({"x": Bomb()}))
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    before = sorted(tmp_path.rglob("*"))
    assert_refused(afbench(*arguments), told, tmp_path, before)


def test_a_published_localizer_without_weights_says_where_how_and_what_needs_none(tmp_path):
    done = run_alone("generate", "--localizer", "mvss", "--attack", "cw", "--steps", "250", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and not list(tmp_path.iterdir())
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("afbench: error:")]
    for part in ("dong03/MVSS-Net", "mvssnet_casia.pt", "--checkpoint PATH", "`--localizer reference` needs"):
        assert part in line


WITHOUT_TORCH = (
    "--help",
    "list",
    "plan --plan ansm-table3",
    "plan --localizer mvss --attack cw --json",
    "verify --help",
    "generate --help",
    "generate --plan demo --dry-run",
    "generate --localizer mvss --attack cw",
)


def test_help_listings_and_plans_do_not_wait_for_torch(tmp_path):
    code = (
        "import sys, afbench.cli as c\n"
        "for command in sys.argv[1:]:\n"
        "    sys.argv = ['afbench', *command.split()]\n"
        "    try: c.main()\n"
        "    except SystemExit: pass\n"
        "    loaded = sorted({'torch', 'datasets'} & set(sys.modules))\n"
        "    sys.stderr.write(f'\\nafter {command}: {loaded}\\n')"
    )
    command = [sys.executable, "-c", code, *WITHOUT_TORCH]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("after ")]
    assert lines == [f"after {command}: []" for command in WITHOUT_TORCH], done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", HELPS, ids=lambda command: "-".join(("afbench", *command)))
def test_every_help_ends_with_an_example_that_parses(command):
    name, *arguments = example(*command)
    assert command == (name, *arguments)[: len(command)]
    parser = importlib.import_module(f"afbench.cli.{name.replace('-', '_')}_command").command
    if isinstance(parser, click.Group):
        name, *arguments = arguments
        parser = parser.commands[name]
    context = parser.make_context(name, arguments)
    assert context.params


def test_the_group_lists_every_command_with_what_it_does(afbench):
    told = afbench("--help").out
    for name in COMMANDS:
        assert f"\n  {name} " in told
    assert cli.list_commands(None) == list(COMMANDS)
    assert afbench().code == 2
    assert afbench("--version").out.startswith("afbench, version ")


def test_the_examples_of_list_and_plan_run(afbench, tmp_path):
    attacks = afbench(*example("list"))
    assert attacks.code == 0 and attacks.out.startswith("attacks:\n") and "  fgsm " in attacks.out
    plan = afbench(*example("plan"))
    assert plan.code == 0 and not list(tmp_path.iterdir())
    assert "gradients per image 2043 one setting at a time, 1535 shared" in plan.out
    assert "configs             80 (20 settings each)" in plan.out
    assert "at most" not in plan.out
    strong = afbench("plan", "--localizer", "reference", "--attack", "strong", "--source", "demo")
    assert "gradients in all    43,200 at most: strong ends once F1 is 0" in strong.out


def test_the_examples_of_verify_stats_and_preview_run_on_what_generate_made(afbench, benchmark, tmp_path):
    for name in ("verify", "stats", "preview"):
        arguments = [str(benchmark) if part == "afbench-out/demo" else part for part in example(name)]
        assert str(benchmark) in arguments
        ran = afbench(*arguments)
        assert ran.code == 0, ran.err
        if name == "verify":
            assert ran.out.endswith("2 rows checked, 0 problems\n")
        if name == "stats":
            assert "reference-cw-5" in ran.out and max(map(len, ran.out.splitlines())) <= 80
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > 900


def test_the_examples_of_export_and_restore_run_on_what_generate_made(afbench, benchmark, tmp_path):
    arguments = [str(benchmark) if part == "afbench-out/demo" else part for part in example("export")]
    ran = afbench(*arguments)
    assert ran.code == 0 and "2 images of 2 configs in afbench-out/demo-archive" in ran.out, ran.err
    ran = afbench(*example("restore"))
    assert ran.code == 0 and "2 images in afbench-out/demo-restored; 2 of 2 shards" in ran.out, ran.err
    restored = tmp_path / "afbench-out/demo-restored"
    assert (restored / "MANIFEST.json").read_bytes() == (benchmark / "MANIFEST.json").read_bytes()


def test_the_examples_of_inspect_and_reproduce_run_on_what_generate_made(afbench, benchmark):
    def here(part):
        return (
            str(benchmark)
            if part == "afbench-out/demo"
            else re.sub(r"reference-cw-\d+", "reference-cw-5", part)
        )

    shown = afbench(*map(here, example("inspect")))
    assert shown.code == 0 and "config: reference-cw-5\n" in shown.out
    again = afbench(*map(here, example("reproduce")))
    assert again.code == 0 and ": identical, " in again.out


def test_answers_for_programs_are_json_on_stdout_alone(afbench, benchmark):
    assert json.loads(afbench("verify", str(benchmark), "--json").out) == {
        "rows": 2,
        "files": 6,
        "problems": [],
    }
    (row,) = json.loads(afbench("stats", str(benchmark), "--json").out)
    assert row["config"] == "reference-cw-5" and row["source"] == "demo" and row["n"] == 1
    listings = json.loads(afbench("list", "--json").out)
    assert list(listings) == ["attacks", "localizers", "sources", "defences", "posting", "plans"]
    # what --after and --through-post take
    assert {"jpeg:QUALITY", "resize:FACTOR", "chain:social"} < listings["posting"].keys()
    found = json.loads(afbench("plan", "--plan", "ansm-table3", "--json").out)
    assert found["plan"] == "ansm-table3"
    assert found["gradients_per_image"] == {"naive": 2043, "shared": 1535}
    assert [(block["configs"], len(block["sources"])) for block in found["blocks"]] == [(80, 4), (4, 1)]
    dry = json.loads(afbench("generate", "--plan", "ansm-table3", "--dry-run", "--json").out)
    del dry["free_bytes"], found["free_bytes"]  # other programs write to the disk between the two
    assert dry == found


def test_a_config_made_differently_is_refused_and_left_alone(afbench, benchmark):
    stamp = {path: path.stat().st_mtime_ns for path in benchmark.rglob("*") if path.is_file()}
    arguments = ("generate", "--localizer", "reference", "--attack", "cw", "--steps", "5", "--limit", "1")
    ran = afbench(*arguments, "--out", str(benchmark), "--checkpoint", "random")
    assert ran.code == 2 and "holds config reference-cw-5 made differently" in ran.err
    assert afbench(*arguments, "--out", str(benchmark)).code == 0
    assert {path: path.stat().st_mtime_ns for path in benchmark.rglob("*") if path.is_file()} == stamp


def test_a_plan_counts_a_folder_without_opening_an_image(afbench, tmp_path):
    for name in ("images/a.png", "images/b.png", "masks/a.png", "masks/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    ran = afbench("plan", *PLAN, "--source", f"folder:{tmp_path}")
    assert ran.code == 0 and "folder (2 expected)" in ran.out


def test_an_early_end_after_the_demo_was_read_is_a_clean_one(tmp_path):
    assert run_alone(*GENERATE, "--device", "toaster", cwd=tmp_path).returncode == 2


def test_a_preview_is_a_png(afbench, tmp_path):
    (tmp_path / "bench").mkdir()
    ran = afbench("preview", "bench", "--out", "sheet.jpg")
    assert ran.code == 2 and "--out" in ran.err and len(ran.err.splitlines()) == 1
