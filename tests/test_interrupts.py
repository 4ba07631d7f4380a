"""Ctrl-C and SIGTERM end a command with exit code 3, wherever they hit; they never make a file bad."""

import ast
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import afbench
import attacks
from afbench import interrupts
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.sources import SourceOptions
from afbench.sources.check import check_entries
from afbench.sources.release_files import find_entries
from afbench.workflows.evaluation.predict import predict
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

SCRIPT = (
    "from afbench.interrupts import catch_signals; from afbench.cli import main\n"
    "catch_signals(); print('ready', flush=True); main()"
)
IMAGES = 80


@pytest.fixture(autouse=True)
def nothing_remembered():
    yield
    interrupts._stopped.clear()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Enough pictures for ``index`` to read them in several processes."""
    folder = tmp_path_factory.mktemp("many")
    mask = np.zeros((64, 64), np.uint8)
    mask[8:40, 8:40] = 255
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        for name, content, suffix in (("images", pixels, "jpg"), ("masks", mask, "png")):
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(content).save(folder / name / f"photo{number:03d}.{suffix}")
    return folder


@pytest.fixture(scope="module")
def bench(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("benched") / "B"
    block = Block(
        ("reference",), (SourceSpec("folder", str(root)),), tuple(expand_attack("noise", phi=["2/255"]))
    )
    generate(RunPlan("test", (block,), limit=8), out, Options())
    return out


@pytest.fixture(scope="module")
def submission(bench, tmp_path_factory):
    out = tmp_path_factory.mktemp("predicted") / "submission"
    predict(bench, out, localizer="reference")
    return out


def handlers(package):
    for path in Path(package.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if not re.search(r"except:|BaseException|KeyboardInterrupt|Stopped", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ExceptHandler):
                yield path, node


@pytest.mark.parametrize("package", [afbench, attacks])
def test_nothing_catches_an_interrupt_and_goes_on(package):
    for path, handler in handlers(package):
        caught = {
            getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(handler.type or ast.Name(""))
        }
        if handler.type is not None and not caught & {"BaseException", "KeyboardInterrupt", "Stopped"}:
            continue
        ends = [
            node
            for node in ast.walk(ast.Module(handler.body, []))
            if isinstance(node, ast.Raise) or getattr(getattr(node, "func", None), "id", "") == "_say_stopped"
        ]
        ends += [
            node for node in ast.walk(ast.Module(handler.body, [])) if getattr(node, "attr", "") == "exit"
        ]
        assert ends, f"{path.name}:{handler.lineno} catches an interrupt and goes on"


def remembered_and_lost():
    """What a library does that makes an error of its own of an interrupt."""
    interrupts._stopped.set()
    raise OSError("broken data stream")


def test_an_interrupt_that_a_decoder_makes_an_error_of_excludes_no_sample(root, monkeypatch):
    found = find_entries("folder", root)
    monkeypatch.setattr(Image.Image, "load", lambda picture: remembered_and_lost())
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda picture: remembered_and_lost())
    with pytest.raises(KeyboardInterrupt):
        list(check_entries(root, found.entries[:4], SourceOptions()))


@pytest.mark.parametrize(
    "arguments",
    [("index", "folder", "--root", "ROOT"), ("generate", "--localizer", "reference", "--attack", "fgsm", "--phi", "1/255",
     "--source", "folder:ROOT", "--limit", "4", "--out", "OUT")],
)  # fmt: skip
def test_the_command_ends_with_3_then_and_commits_nothing_bad(
    afbench, root, tmp_path, monkeypatch, arguments
):
    few = tmp_path / "few"
    for name in ("images", "masks"):
        (few / name).mkdir(parents=True)
        for path in sorted((root / name).iterdir())[:6]:
            shutil.copy(path, few / name)
    monkeypatch.setattr("afbench.sources.entry_reader.decode", lambda *given, **more: remembered_and_lost())
    given = [one.replace("ROOT", str(few)).replace("OUT", str(tmp_path / "out")) for one in arguments]
    ran = afbench(*given)
    assert ran.code == 3 and "stopped" in ran.err and "Traceback" not in ran.err
    assert not list((tmp_path / "out").rglob("*-0*.json"))


def test_a_score_takes_no_mask_for_bad_then(afbench, bench, submission, monkeypatch):
    monkeypatch.setattr("afbench.scoring.mask_png.np.asarray", lambda *given: remembered_and_lost())
    ran = afbench("score", submission, "--data", bench, "--out", "score")
    assert ran.code == 3 and ran.out == "" and "AF008" not in ran.err


def test_verify_reports_no_problem_then(afbench, bench, monkeypatch):
    def lost(*given, **more):
        interrupts._stopped.set()
        return ["data/x"]

    monkeypatch.setattr("afbench.storage.verify.stale_derived", lost)
    ran = afbench("verify", bench)
    assert ran.code == 3 and "stopped" in ran.err


def test_an_interrupt_lost_in_a_destructor_is_raised_at_the_next_step(afbench, bench, monkeypatch, capsys):
    class Unlucky:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):  # the handler runs in here, where Python cannot raise
                pass

    def hashed(path, *given):
        if not interrupts.was_stopped():
            Unlucky()
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr("afbench.storage.verify.sha256_file", hashed)
    ran = afbench("verify", bench)
    assert ran.code == 3 and "Exception ignored" not in ran.err and "Traceback" not in ran.err


def started(arguments, folder):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def interrupted(arguments, folder, delay, number, whole_group):
    process = started(arguments, folder)
    assert process.stdout.readline() == "ready\n"
    send = os.killpg if whole_group else os.kill
    timer = threading.Timer(delay, lambda: process.poll() is None and send(process.pid, number))
    timer.start()
    out, err = process.communicate(timeout=300)
    timer.cancel()
    assert process.returncode in (0, 3), (arguments, delay, process.returncode, err)
    assert "Traceback" not in err and "Exception ignored" not in err, (delay, err)
    return process.returncode, out, err


def strike(times, record_property, command, given, folder):
    arguments, span, check = given
    seed = random.randrange(2**32)
    print("seed", seed)
    draw, codes = random.Random(seed), []
    for number in range(times):
        kind = (signal.SIGINT, signal.SIGTERM)[number % 2]
        delay, target = draw.uniform(0, span), folder / f"out{number}"
        code, *told = interrupted(arguments(target), folder, delay, kind, draw.random() < 0.5)
        codes.append(code)
        check(code, target, *told)
    record_property("ran", f"{times} interrupts of {command}, seed {seed}: {codes.count(3)} ended it")


def no_sample_excluded(code, target, out, err):
    assert "excluded " not in err
    for path in (*target.rglob(".afbench/*/*-[0-9]*.json"), *target.rglob("manifests/*.json")):
        content = json.loads(path.read_text())
        shards = content.get("shards") or [
            shard for part in content.get("splits", {}).values() for shard in part["shards"]
        ]
        assert all(not shard["excluded"] for shard in shards or [content])


def everything_included(code, target, out, err):
    if code == 0:
        assert json.loads(out)["summary"]["included"] == IMAGES


def no_problem(code, target, out, err):
    assert not re.search("AF0(0[1-9]|1[0-4])", out + err)
    assert "problems" not in out or ", 0 problems" in out


def commands(root, bench, submission):
    """Arguments by output folder, the seconds within which the signal comes, and what must hold afterwards."""
    generate = ("generate", "--localizer", "reference", "--attack", "fgsm", "--source", f"folder:{root}")
    return {
        "index": (
            lambda out: ("index", "folder", "--root", root, "--full", "--json"),
            3,
            everything_included,
        ),
        "verify": (lambda out: ("verify", bench), 3, no_problem),
        "score": (lambda out: ("score", submission, "--data", bench, "--out", out), 4, no_problem),
        "generate": (
            lambda out: (*generate, "--limit", "12", "--shard-size", "4", "--out", out),
            8,
            no_sample_excluded,
        ),
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_while_python_itself_ends_does_no_harm(number):
    late = (
        "import os\n"
        "from afbench import interrupts\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, pid=os.getpid()):\n"
        f"        kill(pid, {int(number)})\n"
        "interrupts.catch_signals()\n"
        "interrupts.kept_to_the_end = Late()\n"
        "interrupts.end_at_once()\n"
    )
    ended = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.reliability("R1")
@pytest.mark.parametrize("command", ["index", "verify", "score", "generate"])
def test_an_interrupt_at_a_random_time_ends_the_command(
    root, bench, submission, tmp_path, command, record_property
):
    strike(2, record_property, command, commands(root, bench, submission)[command], tmp_path)


@pytest.mark.slow
@pytest.mark.reliability("R1")
@pytest.mark.parametrize("command", ["index", "verify", "score", "generate"])
def test_many_interrupts_at_random_times_end_the_command(
    root, bench, submission, tmp_path, command, record_property
):
    strike(25, record_property, command, commands(root, bench, submission)[command], tmp_path)
