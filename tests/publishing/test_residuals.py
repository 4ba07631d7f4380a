"""What residuals alone say of originals that may not be shared, and from which change on they are not given away."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afbench.core import UsageError
from afbench.storage import rights
from afbench.storage.manifests import open_benchmark
from afbench.storage.rights import hidden_sources, revealing
from afbench.workflows.publishing.export import export
from afbench.workflows.publishing.push import prepare


def _told(original: Any, levels: int, seed: int) -> Any:
    """Where the residual of one sign step shows the original's value, as whoever knows phi reads it."""
    step = np.random.default_rng(seed).choice([-levels, levels], original.shape)
    residual = np.clip(original.astype(int) + step, 0, 255) - original
    told = (residual != 0) & (abs(residual) < levels)
    assert np.array_equal(np.where(residual > 0, 255 - residual, -residual)[told], original[told])
    return told


@pytest.mark.parametrize("levels", [1, 3, 16, 128, 255])
def test_a_sign_step_shows_values_near_black_and_white_and_with_phi_all_of_them(
    picture: Callable[..., Any], levels: int
) -> None:
    original = picture(200, 200)
    told = _told(original, levels, seed=1)
    assert told.mean() == pytest.approx((levels - 1) / 256, rel=0.05)  # of values that are evenly spread
    assert not told[(original >= levels) & (original <= 255 - levels)].any()


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit between the two configs of the benchmark, 1/255 and 2/255."""
    monkeypatch.setattr(rights, "RESIDUAL_LEVELS", 1)


@pytest.mark.usefixtures("limit")
def test_the_rows_say_which_configs_are_revealing(folder: Path) -> None:
    configs = open_benchmark(folder).configs
    assert revealing(folder, configs, ["synthetic"]) == [("synthetic", "reference-fgsm-2", 2)]
    assert revealing(folder, configs, []) == []


@pytest.mark.usefixtures("limit")
def test_an_archive_that_would_show_forbidden_originals_is_not_written(
    of_terms: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = of_terms("forbidden")
    with pytest.raises(
        UsageError, match="reference-fgsm-2 changes pixels of synthetic, which may not be shared, by up to 2"
    ):
        export(folder, tmp_path / "archive", "hdf5")
    assert not (tmp_path / "archive").exists()
    with pytest.raises(UsageError, match="take others with --config reference-fgsm-1, or keep"):
        prepare(folder, "user/name", residuals=True)
    done = export(folder, tmp_path / "small", "hdf5", configs=["reference-fgsm-1"])
    assert done.withheld == ["synthetic"] and prepare(tmp_path / "small", "user/name").files
    assert export(folder, tmp_path / "home", "hdf5", with_originals=True).withheld == []


@pytest.mark.usefixtures("limit")
def test_an_archive_of_unclear_terms_is_pushed_only_by_who_may_share(
    of_terms: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = of_terms("unclear")
    export(folder, tmp_path / "archive", "hdf5", with_originals=False)
    with pytest.raises(UsageError, match="which perhaps may not be shared, by up to 2 levels"):
        prepare(tmp_path / "archive", "user/name")
    assert prepare(tmp_path / "archive", "user/name", may_share=True).files


def test_an_archive_that_was_written_before_there_was_a_limit_is_not_pushed(
    of_terms: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = of_terms("forbidden")
    export(folder, tmp_path / "archive", "hdf5")
    assert hidden_sources(open_benchmark(tmp_path / "archive").configs) == {"synthetic": "forbidden"}
    monkeypatch.setattr(rights, "RESIDUAL_LEVELS", 1)
    with pytest.raises(UsageError, match="which may not be shared, by up to 2 levels"):
        prepare(tmp_path / "archive", "user/name", may_share=True)


def test_the_card_says_what_residuals_show(of_terms: Callable[[str], Path], tmp_path: Path) -> None:
    export(of_terms("forbidden"), tmp_path / "archive", "hdf5")
    told = " ".join((tmp_path / "archive" / "README.md").read_text().split())
    assert "Residuals are no secret-keeping" in told
