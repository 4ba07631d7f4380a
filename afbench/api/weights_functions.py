"""``afbench.weights``: your copies of published weights, a function for each command of ``afbench weights``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.argument_types import checks_arguments
from afbench.folders import weights_folder
from afbench.localizers.weights import Registered, list_weights, remove_weights

if TYPE_CHECKING:
    import pandas as pd

    from afbench.localizers.conformance import Finding

__all__ = ["CheckedLocalizer", "WeightsTable", "add", "check", "list", "remove"]


@dataclass(frozen=True)
class WeightsTable:
    """Where the weights of each published localizer come from, and which are in ``folder``; ``rows`` as ``afbench weights list --json``."""

    folder: Path
    rows: Sequence[dict[str, Any]]

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per localizer: ``name``, ``title``, ``file``, ``where``, ``licence``, ``megabytes``, ``sha256``, ``registered``, ``problem``."""
        import pandas as pd

        return pd.DataFrame(self.rows)


@dataclass(frozen=True)
class CheckedLocalizer:
    """The promises that a localizer was tried on: ``findings`` with ``name``, ``passed`` and ``detail``."""

    findings: Sequence[Finding]

    @property
    def passed(self) -> bool:
        """Return whether it keeps every promise."""
        return all(finding.passed for finding in self.findings)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per promise: ``name``, ``passed``, ``detail``."""
        import pandas as pd

        return pd.DataFrame([asdict(finding) for finding in self.findings])


def list() -> WeightsTable:
    """List where each localizer's weights are published, and which are registered here.

    Returns:
        A ``WeightsTable``: ``folder``, ``rows``; ``to_pandas()`` has one row per localizer, with ``registered`` None where no weights are.
    """
    return WeightsTable(weights_folder(), list_weights())


@checks_arguments
def add(name: str, file: str | Path, *, overwrite: bool = False) -> Registered:
    """Check a checkpoint as its authors release it, and keep it for a localizer; nothing in a file is run.

    Args:
        name: the published localizer.
        file: the checkpoint; for ``pscc`` the folder with its three files.
        overwrite: replace other weights of this name.
    Returns:
        A ``Registered``: ``path`` (safetensors), ``weights_sha256``, ``origin``, ``origin_sha256``, ...
    Raises:
        UsageError: if the name is no published localizer's, the file is missing, damaged, unsafe or of another network, or other
            weights are registered.
    """
    from afbench.localizers.register import add_weights

    return add_weights(name, Path(file), overwrite=overwrite)


@checks_arguments
def remove(name: str) -> bool:
    """Delete the registered weights of a localizer; your own file stays.

    Args:
        name: the published localizer.
    Returns:
        Whether there were any.
    Raises:
        UsageError: if the name is no published localizer's.
    """
    return remove_weights(name)


@checks_arguments
def check(
    name: str,
    *,
    checkpoint: str | None = None,
    device: str = "cpu",
    on_finding: Callable[[Finding], None] | None = None,
) -> CheckedLocalizer:
    """Check that a localizer, or your own ``module:function``, keeps what attacks and scores rest on.

    ``afbench.check_localizer`` does the same with a localizer that is loaded.

    Args:
        name: the localizer, e.g. ``"reference"`` or ``"my_package.my_module:build"``.
        checkpoint: weights that are not registered; ``random`` for untrained ones.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        on_finding: called with each finding as soon as it is there, since a large network takes a while for some.
    Returns:
        A ``CheckedLocalizer``: ``passed``, ``findings``; ``to_pandas()`` has one row per promise. What is broken is returned, not raised.
    Raises:
        UsageError: if the localizer cannot be built.
    """
    from afbench.localizers import load_localizer
    from afbench.localizers.conformance import check_localizer

    localizer = load_localizer(name, checkpoint, device=device)
    findings = []
    for finding in check_localizer(localizer, device=device):
        findings.append(finding)
        if on_finding is not None:
            on_finding(finding)
    return CheckedLocalizer(findings)
