"""Decoding, encoding and writing beside the attack change no byte, lose no error and pile up nothing."""

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from afbench import failpoints
from afbench.core import AfbenchError, BadSample, UsageError
from afbench.engine import block
from afbench.engine.io_pool import SerialWriter, default_threads, inline, threads, writing
from afbench.images import decode
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.manifests import TOP
from afbench.storage.verify import verify
from afbench.workflows.generation import shard_run as work
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import GenerateHooks, Options

SETTINGS = (
    *expand_attack("fgsm", phi=["1/255", "2/255"]),
    *expand_attack("pgd", phi=["1/255"], params={"steps": 2}),
    *expand_attack("cw", steps=[1, 2]),
)
GROUPS = 3
SHARDS = 3


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photographs and a file that is none, for three shards of two."""
    root = tmp_path_factory.mktemp("photographs")
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32 + 16 * (number % 2), 3), np.uint8)
        mask = np.zeros(pixels.shape[:2], np.uint8)
        mask[4:20, 8:24] = 255
        for folder, content in (("images", pixels), ("masks", mask)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(content).save(root / folder / f"photo{number}.png")
    (root / "images" / "photo3.png").write_bytes(b"no picture")
    return root


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Generate in a folder with a number of workers."""
    monkeypatch.setattr("afbench.workflows.generation.generate.software", dict)

    def run(out: Path, workers: int, hooks: GenerateHooks | None = None) -> Any:
        plan = RunPlan("test", (Block(("reference",), (SourceSpec("folder", str(root)),), SETTINGS),))
        return generate(plan, out, Options(checkpoint="random", shard_size=2, image_threads=workers), hooks)

    return run


def _tree(out: Path) -> dict[str, bytes]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.parent.name != "log"}


@pytest.mark.reliability("R12")
def test_the_number_of_workers_changes_no_byte(run: Any, tmp_path: Path) -> None:
    outcomes = [run(tmp_path / str(workers), workers) for workers in (0, 1, 4)]
    expected = _tree(tmp_path / "0")
    assert _tree(tmp_path / "1") == expected and _tree(tmp_path / "4") == expected
    assert verify(tmp_path / "4", level="deep") == []
    assert {(one.gradients, one.shards_written) for one in outcomes} == {
        (outcomes[0].gradients, SHARDS * (1 + len(SETTINGS)))
    }
    assert outcomes[2].excluded_counts == {"unreadable": 1}


@pytest.mark.reliability("R3")
@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_does_not_come_back_from_its_bytes_is_never_stored(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(block, "decode_stored", lambda data: np.zeros((1, 1, 3), np.uint8))
        with pytest.raises(AfbenchError, match="does not come back from webp as it was"):
            run(tmp_path / "out", workers)
    assert not list((tmp_path / "out").glob("data/reference*")) and not (tmp_path / "out" / TOP).exists()
    run(tmp_path / "out", workers)
    run(tmp_path / "whole", 0)
    assert _tree(tmp_path / "out") == _tree(tmp_path / "whole")


@pytest.mark.reliability("R1")
def test_a_ctrl_c_while_images_are_encoded_loses_only_what_is_being_attacked(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_gradients: Callable[..., None]
) -> None:
    attacked: list[int] = []
    encoding = threading.Event()
    real = block._store

    def store(*given: Any) -> Any:
        assert encoding.wait(30)  # the first group is still being encoded when the second is attacked
        return real(*given)

    def advance(gradients: int) -> None:
        attacked.append(gradients)
        if len(attacked) == 3:  # images of two sizes: FGSM takes two launches, and this is PGD
            # a Ctrl-C takes its way through the main thread, which then waits for what is encoded
            threading.Timer(0.05, encoding.set).start()
            raise KeyboardInterrupt

    on_gradients(advance)
    with monkeypatch.context() as patch:
        patch.setattr(block, "_store", store)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "out", 2)
    on_gradients(lambda images: None)
    stored = {path.parent.name for path in (tmp_path / "out").glob("data/*/*.parquet")}
    assert stored == {"clean", "reference-fgsm-1", "reference-fgsm-2"}
    assert not list((tmp_path / "out").rglob("*.tmp.*"))
    run(tmp_path / "out", 2)
    run(tmp_path / "whole", 0)
    assert _tree(tmp_path / "out") == _tree(tmp_path / "whole")


@pytest.mark.reliability("R15")
def test_a_slow_disk_holds_up_the_attack_and_reading_is_one_shard_ahead(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, "commit.write=*:20ms")
    begun, written, read = [], [], []
    start, write, one = work.start_settings, work._write_group, work._read
    waiting, ahead = [], []

    def starting(*given: Any, **options: Any) -> Any:
        begun.append(None)
        waiting.append(len(begun) - len(written))
        ahead.append(len(read) - 2 * ((len(begun) - 1) // GROUPS + 1))
        return start(*given, **options)

    def writing_group(*given: Any) -> Any:
        try:
            return write(*given)
        finally:
            written.append(None)

    monkeypatch.setattr(work, "start_settings", starting)
    monkeypatch.setattr(work, "_write_group", writing_group)
    monkeypatch.setattr(work, "_read", lambda *given: (read.append(None), one(*given))[1])
    run(tmp_path, 4)
    assert len(begun) == len(written) == GROUPS * SHARDS and len(read) == 6
    assert max(waiting) <= 2  # one being attacked, one being written
    assert max(ahead) <= 2


def test_threads_leave_the_filters_of_warnings_as_they_were_and_say_nothing(
    recwarn: pytest.WarningsRecorder, tmp_path: Path
) -> None:
    palette = Image.fromarray(np.zeros((8, 8), np.uint8)).convert("P")
    palette.save(tmp_path / "one.png", transparency=bytes([0, 255]))
    data = (tmp_path / "one.png").read_bytes()

    def judged(_: int) -> str:
        try:
            decode(data)
        except BadSample as problem:
            return problem.reason
        return "opaque"

    before = list(warnings.filters)
    with threads(4) as submit:
        found = {one.result() for one in [submit(judged, number) for number in range(200)]}
    assert found == {"unsupported_mode"} and not recwarn.list
    assert list(warnings.filters) == before


def test_a_writer_takes_the_next_piece_only_when_the_last_is_done() -> None:
    order: list[str] = []
    gate = threading.Event()

    def slow() -> None:
        assert gate.wait(30)
        order.append("first")

    with writing(1) as writer:
        writer.put(slow)
        assert order == []
        gate.set()
        writer.put(lambda: order.append("second"))
        assert "first" in order
    assert order == ["first", "second"] and writer.pieces == 2


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [AfbenchError("disk full"), KeyboardInterrupt()])
def test_what_goes_wrong_in_a_piece_is_raised_to_who_brought_it(workers: int, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)), writing(workers) as writer:
        writer.put(fail)
        writer.flush()
    with pytest.raises(type(error)), writing(workers) as writer:
        writer.put(fail)


def test_where_something_else_went_wrong_the_last_piece_is_still_written() -> None:
    done: list[int] = []
    gate = threading.Event()
    with pytest.raises(ZeroDivisionError), writing(1) as writer:
        writer.put(lambda: (gate.wait(30), done.append(1))[1])
        threading.Timer(0.01, gate.set).start()
        raise ZeroDivisionError
    assert done == [1]


def test_without_workers_work_is_done_at_once_and_its_error_raised() -> None:
    assert inline(lambda one: one + 1, 1).result() == 2
    with pytest.raises(ZeroDivisionError):
        inline(lambda: 1 / 0)
    with threads(0) as submit:
        assert submit is inline
    assert default_threads() >= 1 and isinstance(SerialWriter(inline)._submit(lambda: None), Future)


def test_a_negative_number_of_workers_is_refused(run: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--image-threads must be at least 0; found -1"):
        run(tmp_path / "out", -1)
