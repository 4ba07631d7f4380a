"""Who makes the shards of a plan: this process, a part of several, or a crew of workers. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from afbench.core import UsageError

from ..request import Options, Part

EXECUTORS = ("local", "ray", "slurm")
_PACKAGES = {"ray": "ray", "slurm": "submitit"}
_RAY_PARAMS = ("address", "num_cpus", "num_gpus")
Value = str | int | float


@dataclass(frozen=True)
class Crew:
    """Workers that one command starts, watches and stops.

    ``workers`` None leaves their number to the devices; ``devices`` are for ``local`` alone, where workers take them in turn.
    ``params`` are those of Ray (``address``, ``num_cpus``, ``num_gpus`` of a worker) or submitit.
    """

    executor: str
    workers: int | None = None
    devices: tuple[str, ...] = ()
    params: Mapping[str, Value] = field(default_factory=dict)


def read_crew(
    executor: str | None, workers: int | None, devices: str | None, params: Sequence[str]
) -> Crew | None:
    """Read ``--executor`` and what goes with it; None without it.

    Raises:
        UsageError: for what does not go together, a number of workers below 1, or an extra that is not installed.
    """
    if executor is None:
        if workers is not None or devices is not None or params:
            raise UsageError(
                "--workers, --devices and --executor-param go with --executor, for example local"
            )
        return None
    package = _PACKAGES.get(executor)
    if package and find_spec(package) is None:
        raise UsageError(f"--executor {executor} needs {package}: pip install 'afbench[{executor}]'")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be at least 1; found {workers}")
    if devices is not None and executor != "local":
        raise UsageError(
            f"--devices goes with --executor local; {executor} gives each worker a device of its own: --device cuda"
        )
    found = Crew(executor, workers, _parse_devices(devices), dict(map(_parse_param, params)))
    _check_params(found)
    return found


def read_part(index: int | None, count: int | None, crew: Crew | None, options: Options) -> Part | None:
    """Read ``--shard-index`` and ``--num-shards``; None without them.

    Raises:
        UsageError: if one is missing or out of range, or they meet what they do not go with.
    """
    if index is None and count is None:
        return None
    if index is None or count is None:
        raise UsageError("--shard-index and --num-shards go together: --shard-index 0 --num-shards 4")
    if crew:
        raise UsageError("--executor hands out the shards itself; leave out --shard-index and --num-shards")
    if options.retry_failed:
        raise UsageError("--retry-failed is for all shards at once; leave out --shard-index and --num-shards")
    return Part(index, count)


def _parse_devices(text: str | None) -> tuple[str, ...]:
    names = () if text is None else tuple(name.strip() for name in text.split(","))
    for name in names:
        if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", name):
            raise UsageError(f"--devices must be such as cuda:0,cuda:1; found '{text}'")
    return names


def _parse_param(text: str) -> tuple[str, Value]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise UsageError(f"--executor-param must be name=value; found '{text}'")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _check_params(crew: Crew) -> None:
    if crew.executor == "local" and crew.params:
        raise UsageError("--executor local takes no --executor-param")
    unknown = [name for name in crew.params if crew.executor == "ray" and name not in _RAY_PARAMS]
    if unknown:
        raise UsageError(
            f"--executor ray has no parameter '{unknown[0]}'; its parameters: {', '.join(_RAY_PARAMS)}"
        )
    for name in ("num_cpus", "num_gpus"):
        if crew.executor == "ray" and isinstance(crew.params.get(name), str):
            raise UsageError(f"--executor-param {name} must be a number; found '{crew.params[name]}'")
    if crew.executor == "slurm" and crew.workers is None:
        raise UsageError("--executor slurm needs --workers N, the number of jobs")
    if crew.executor == "slurm" and not isinstance(crew.params.get("timeout_min"), int):
        raise UsageError(
            "--executor slurm needs the time limit of a job: --executor-param timeout_min=MINUTES; "
            "a job that meets it is queued again"
        )
