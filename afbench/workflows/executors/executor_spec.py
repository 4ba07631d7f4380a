"""Read who makes the shards of a plan: this process, one of several parts, or an executor's workers. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from afbench.core import UsageError
from afbench.naming import named_once

from ..request import Options, Part

EXECUTORS = ("local", "ray", "slurm")
_PACKAGES = {"ray": "ray", "slurm": "submitit"}
_RAY_PARAMS = ("address", "num_cpus", "num_gpus")
Value = str | int | float


@dataclass(frozen=True)
class ExecutorSpec:
    """Which executor runs the workers of a command, how many workers, and where.

    If ``workers`` is None, there are as many as devices. Only ``local`` uses ``devices``; its workers take them in turn.
    ``params`` are settings of Ray (``address``, ``num_cpus``, ``num_gpus`` of a worker) or of submitit.
    """

    executor: str
    workers: int | None = None
    devices: tuple[str, ...] = ()
    params: Mapping[str, Value] = field(default_factory=dict)


def read_executor_spec(
    executor: str | None, workers: int | None, devices: str | None, params: Sequence[str]
) -> ExecutorSpec | None:
    """Read ``--executor`` and the options that go with it; return None if it is not given.

    Raises:
        UsageError: for options that do not go together, fewer than one worker, or an extra that is not installed.
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
    spec = ExecutorSpec(
        executor, workers, _parse_devices(devices), named_once("--executor-param", map(_parse_param, params))
    )
    _check_params(spec)
    return spec


def read_part(
    index: int | None, count: int | None, executor_spec: ExecutorSpec | None, options: Options
) -> Part | None:
    """Read ``--shard-index`` and ``--num-shards``; return None if neither is given.

    Raises:
        UsageError: if one is missing or out of range, or another option does not go with them.
    """
    if index is None and count is None:
        return None
    if index is None or count is None:
        raise UsageError("--shard-index and --num-shards go together: --shard-index 0 --num-shards 4")
    if executor_spec:
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
    # submitit checks the types of its parameters: a time limit must be a number
    for number_type in (int, float):
        try:
            return name, number_type(value)
        except ValueError:
            continue
    return name, value


def _check_params(spec: ExecutorSpec) -> None:
    if spec.executor == "local" and spec.params:
        raise UsageError("--executor local takes no --executor-param")
    unknown = [name for name in spec.params if spec.executor == "ray" and name not in _RAY_PARAMS]
    if unknown:
        raise UsageError(
            f"--executor ray has no parameter '{unknown[0]}'; its parameters: {', '.join(_RAY_PARAMS)}"
        )
    for name in ("num_cpus", "num_gpus"):
        if spec.executor == "ray" and isinstance(spec.params.get(name), str):
            raise UsageError(f"--executor-param {name} must be a number; found '{spec.params[name]}'")
    if spec.executor == "slurm" and spec.workers is None:
        raise UsageError("--executor slurm needs --workers N, the number of jobs")
    if spec.executor == "slurm" and not isinstance(spec.params.get("timeout_min"), int):
        raise UsageError(
            "--executor slurm needs the time limit of a job: --executor-param timeout_min=MINUTES; "
            "a job that meets it is queued again"
        )
