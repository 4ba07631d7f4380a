"""Wheels for a machine without a network: fetched beforehand, installed into a folder of their own there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

PACKAGES = {
    "datasets": "datasets",
    "multiprocess": "multiprocess",
    "dill": "dill",
    "jsonschema": "jsonschema",
    "jsonschema-specifications": "jsonschema_specifications",
    "referencing": "referencing",
    "rpds-py": "rpds",
    "torchattacks": "torchattacks",
}
"""Distributions that a GPU image seldom has, and the module that each brings."""
PYTHON = "3.12"
"""Of the machine that the wheels are for."""
MAX_BYTES = 20 * 2**20
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def requirements() -> list[str]:
    """List the packages at this environment's versions, which fit each other; the newest where it has none."""
    return [_pinned(package) for package in PACKAGES]


def _pinned(package: str) -> str:
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:
        return package


def download(folder: Path) -> int:
    """Fetch the wheels into ``folder`` and return how many bytes they have.

    Raises:
        SystemExit: if pip fails, or they are larger than ``MAX_BYTES``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in folder.glob("*.whl"):
        wheel.unlink()  # pip refuses two versions of a package
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    options = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON]
    _pip(["download", "--quiet", *options, *platforms, "--dest", str(folder), *requirements()])
    size = sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))
    if size > MAX_BYTES:
        sys.exit(f"the wheels have {size / 2**20:.1f} MiB, more than {MAX_BYTES / 2**20:.0f}")
    return size


def missing_modules() -> list[str]:
    """List the modules of ``PACKAGES`` that this environment cannot import."""
    return [module for module in PACKAGES.values() if find_spec(module) is None]


def install(folder: Path, target: Path) -> None:
    """Unpack the wheels of ``folder`` into ``target``, which nothing else uses.

    Raises:
        SystemExit: if there are none, or pip fails.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        missing = ", ".join(missing_modules())
        sys.exit(
            f"this machine lacks {missing}, and '{folder}' holds no wheels; run `scripts/gpu_check --wheels` where there is "
            "a network, and bring the folder along"
        )
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--upgrade", "--target", str(target)]
    _pip(["install", *options, *map(str, wheels)])


def _pip(arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        sys.exit(f"pip {arguments[0]} failed: {lines[-1]}")
