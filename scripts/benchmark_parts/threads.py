"""(e) How torch's threads wait and how many there are, on a machine that does nothing else and on one that has other work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import product
from multiprocessing import get_context
from statistics import median

from afbench.allocator import keep_freed_memory
from afbench.core import Localizer
from afbench.cores import WAIT_BRIEFLY, usable_cores
from afbench.engine.grid import AttackBatch
from afbench.plans import expand_attack

from .clock import Clock, middle
from .pictures import a_localizer, as_batch, attack, pictures
from .table import Table, verdict

READ_BY_LIBRARIES = (
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
)
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "as it comes": {},
    "afbench's": WAIT_BRIEFLY,
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
FGSM = list(expand_attack("fgsm", phi=["1/255"]))
BY_AFBENCH = "afbench's"
"""What the command line sets."""
IDLE, LOADED = 0.95, 5.0
"""Times the rate as it comes that ours may reach at least: alone, within what two runs differ; and beside the most processes."""
LEAST_SECONDS = 1.0
"""What a rate is taken over."""
_SPIN = "import os\nstarter = os.getppid()\nwhile os.getppid() == starter: pass"


def table(
    *, sizes: Sequence[tuple[int, int]], spinning: Sequence[int], repeats: int, device: str = "cpu"
) -> Table:
    """Measure gradients per second of (side, images per batch), by setting, next to so many spinning processes.

    Libraries read the settings when they are loaded: each has a process of its own, that does nothing while it is not its
    turn. Always by the clock on the wall.
    """
    rates: dict[tuple[int, tuple[int, int]], dict[str, list[float]]] = {}
    with ExitStack() as stack:
        pools = {name: stack.enter_context(_process(setting)) for name, setting in SETTINGS.items()}
        for size, pool in product(sizes, pools.values()):
            pool.submit(_rate, size, device).result()  # warms up
        for number in spinning:
            with _spinning_processes(number):
                for size, turn in product(sizes, range(repeats)):
                    setting_rates = rates.setdefault((number, size), {name: [] for name in SETTINGS})
                    for name in list(pools)[:: 1 if turn % 2 else -1]:
                        setting_rates[name].append(pools[name].submit(_rate, size, device).result())
    rows = []
    for (number, (side, images)), setting_rates in rates.items():
        ratios = [
            with_afbench / as_it_comes
            for with_afbench, as_it_comes in zip(
                setting_rates[BY_AFBENCH], setting_rates["as it comes"], strict=True
            )
        ]
        target = {0: IDLE, max(spinning): LOADED}.get(number)
        target_text = verdict(median(ratios) >= target) if target else ""
        rows.append(
            [
                str(number),
                str(side),
                str(images),
                *map(middle, setting_rates.values()),
                middle(ratios),
                target_text,
            ]
        )
    note = (
        f"Gradients per second of FGSM on `reference`, {usable_cores()} cores, beside so many processes that spin; each setting in a process of its "
        f"own, in turn; medians of {repeats} runs with 5 to 95 %. `{BY_AFBENCH}` is what its own processes set: a spin count of 1000. Target: {IDLE} times the rate as it "
        f"comes at least where nothing else runs, {LOADED:g} times beside {max(spinning)} processes."
    )
    head = ("spinning", "side", "images per batch", *SETTINGS, f"{BY_AFBENCH}, times faster", "target")
    return Table("Threads, alone and beside other work", head, rows, note)


@contextmanager
def _process(setting: Mapping[str, str]) -> Iterator[ProcessPoolExecutor]:
    """Start a process whose environment has these thread settings and no others."""
    environment = dict(os.environ)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            for name in READ_BY_LIBRARIES:
                os.environ.pop(name, None)
            os.environ.update(setting)
            pool.submit(os.getpid).result()
        finally:
            os.environ.clear()
            os.environ.update(environment)
        yield pool


@contextmanager
def _spinning_processes(number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start so many processes that do nothing but spin; they end with this one, however it ends."""
    spinning = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(number)]
    try:
        yield spinning
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@cache
def _localizer(device: str) -> Localizer:
    keep_freed_memory()  # as the command line does
    return a_localizer("reference", device)


@cache
def _batch(side: int, images: int, device: str) -> AttackBatch:
    return as_batch(pictures(images, side), device)


def _rate(size: tuple[int, int], device: str) -> float:
    """Measure gradients per second of batches one after the other, in the pool's process."""
    side, images = size
    batch, localizer = _batch(side, images, device), _localizer(device)
    batches, seconds = 0, 0.0
    while seconds < LEAST_SECONDS:  # the first batch after a rest is slower than those that follow
        seconds += Clock(device)(lambda: attack(localizer, batch, FGSM, images))
        batches += 1
    return batches * images / seconds
