"""Shared by all tests: one thread, pictures to work on, and a way to call the command line."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from afbench.cli import main
from afbench.core import ByteImage

torch.set_num_threads(1)


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("AFBENCH_WEIGHTS", raising=False)
        yield


@pytest.fixture
def afbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Call the command line in this process, inside an empty working directory: ``afbench("plan", ...)``."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Ran:
        monkeypatch.setattr("sys.argv", ["afbench", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        told = capsys.readouterr()
        return Ran(int(stop.value.code or 0), told.out, told.err)

    return call


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
