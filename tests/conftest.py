"""Shared by all tests: one thread, pictures to work on, and a way to call the command line."""

import importlib
import io
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from afbench import cli
from afbench.cli import main
from afbench.core import ByteImage

# torch takes seconds to load, which the process that only hands out tests, and files without networks, can spare; it reads this
os.environ["OMP_NUM_THREADS"] = "1"
settings.register_profile("short", deadline=None, max_examples=30)
settings.register_profile("long", deadline=None, max_examples=300)


def pytest_collection_finish() -> None:
    """Keep no bytecode from here on: a test may write a module, import it, and write another of its size within the second."""
    sys.dont_write_bytecode = True


def pytest_configure(config: pytest.Config) -> None:
    """Try few examples of each property, and many where slow tests are asked for; how long one takes is no test."""
    settings.load_profile("long" if config.option.markexpr == "slow" else "short")
    # a shell makes what it starts with & ignore Ctrl-C, and the commands under test would ignore it, too
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU")


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests out of the user's own cache."""
    fonts = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matplotlib"
    with pytest.MonkeyPatch.context() as patch:
        # but for matplotlib's list of fonts, which takes it a second to make
        if os.access(fonts, os.W_OK):
            patch.setenv("MPLCONFIGDIR", str(fonts))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("AFBENCH_WEIGHTS", raising=False)
        patch.setattr(
            cli, "keep_freed_memory", lambda: False
        )  # their process is theirs, and forks faster when small
        # it helps where a machine loses its power, which no test does: killed processes leave what they wrote
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source ``folder``: three forged photographs of noise, two of one size; not to be changed."""
    root = tmp_path_factory.mktemp("photographs")
    for number, side in enumerate((32, 48, 32)):
        pixels = np.random.default_rng(number).integers(0, 256, (32, side, 3), dtype=np.uint8)
        mask = np.zeros((32, side), np.uint8)
        mask[4:20, 8:24] = 255
        for folder, content in (("images", pixels), ("masks", mask)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(content).save(root / folder / f"photo{number}.png")
    return root


@pytest.fixture
def afbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Call the command line in this process, inside an empty working directory: ``afbench("plan", ...)``."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Ran:
        monkeypatch.setattr("sys.argv", ["afbench", *map(str, arguments)])
        capsys.readouterr()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        with pytest.raises(SystemExit) as stop:
            main()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        told = capsys.readouterr()
        return Ran(int(stop.value.code or 0), told.out, told.err)

    return call


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Write a user's module into the working directory: ``module("def build...")`` gives its name, a new one unless it is given."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(
        sys, "dont_write_bytecode", True
    )  # a file changed within a second would look unchanged
    monkeypatch.chdir(tmp_path)
    count = iter(range(99))
    written = []

    def write(code: str, name: str | None = None) -> str:
        name = name or f"My_module{next(count)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        importlib.invalidate_caches()
        sys.modules.pop(name, None)  # a file of that name was another test's, or an earlier version
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


class Made(NamedTuple):
    """A small benchmark and what it was made of: 5 forged images of three sizes in ``root``, and 2 synthetic ones."""

    folder: Path
    root: Path
    configs: tuple[str, ...] = ("clean", "reference-fgsm-1", "reference-fgsm-3", "reference-cw-2")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A benchmark of sources ``folder`` and ``synthetic`` in shards of 2; not to be changed."""
    from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
    from afbench.workflows.generation.generate import generate
    from afbench.workflows.request import Options

    base = tmp_path_factory.mktemp("made")
    root = base / "photographs"
    for number in range(5):
        shape = (40, 32 + 16 * (number % 3), 3)
        pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
        mask = np.zeros(shape[:2], np.uint8)
        mask[4:20, 8 : 20 + number] = 255
        for name, content in (("images", pixels), ("masks", mask)):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(root / name / f"photo.{number}.png")
    settings = (*expand_attack("fgsm", phi=["1/255", "3/255"]), *expand_attack("cw", steps=[2]))
    for spec, limit in ((SourceSpec("folder", str(root)), None), (SourceSpec("synthetic", None), 2)):
        plan = RunPlan("test", (Block(("reference",), (spec,), settings),), limit=limit)
        generate(plan, base / "out", Options(checkpoint="random", shard_size=2))
    return Made(base / "out", root)


@pytest.fixture
def on_gradients(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], Any]], None]:
    """Have a function called with the number of images, each time that an attack takes their gradients."""
    from afbench.engine.meter import Meter

    real = Meter._see

    def listen(call: Callable[[int], Any]) -> None:
        def see(meter: Meter, gradient: Any, images: int) -> None:
            real(meter, gradient, images)
            call(len(gradient))

        monkeypatch.setattr(Meter, "_see", see)

    return listen


@pytest.fixture(scope="session")
def picture() -> Callable[..., ByteImage]:
    """Random uint8 RGB ``(H, W, 3)``: ``picture(20, 30, seed=1)``."""

    def draw(height: int = 20, width: int = 30, *, seed: int = 0) -> ByteImage:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    return draw


@pytest.fixture(scope="session")
def save() -> Callable[..., bytes]:
    """Bytes of an array or Pillow image in a format: ``save(array, "PNG", mode="RGBA")``."""

    def encode(picture: Any, image_format: str, *, mode: str | None = None, **options: Any) -> bytes:
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        stream = io.BytesIO()
        (image.convert(mode) if mode else image).save(stream, image_format, **options)
        return stream.getvalue()

    return encode
