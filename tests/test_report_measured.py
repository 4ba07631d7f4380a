"""Figures of a report that need a localizer: what they show is what the benchmark stores and what the CSV beside them says."""

import builtins
import csv
import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from afbench.core import UsageError
from afbench.reports.drawing import LIGHT
from afbench.reports.embedding import embed
from afbench.reports.feature_figure import FeatureRow, feature_drawing
from afbench.storage.manifests import open_benchmark, shard_paths
from afbench.storage.shards import read_rows
from afbench.workflows.reporting.measure_options import MeasureOptions
from afbench.workflows.reporting.measured_figures import measured_drawings, open_measurements

ODD = "<script>100%_$x$"


@pytest.fixture
def without_umap(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **options):
        if name == "umap":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_without_umap_components_keep_the_distances_of_a_plane_and_the_figure_says_so(without_umap):
    plane = np.random.default_rng(0).normal(size=(12, 2))
    vectors = plane @ [[1.0, 2.0, 0.0], [0.5, 0.0, 3.0]]
    embedding = embed(vectors)
    scaled = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    np.testing.assert_allclose(embedding.coordinates @ embedding.coordinates.T, scaled @ scaled.T, atol=1e-9)
    assert embedding.method == "PCA, as umap-learn is not installed"
    np.testing.assert_array_equal(embed(vectors).coordinates, embedding.coordinates)
    shares = [int(title.split("(")[1].split()[0]) for title in embedding.axes]
    assert sum(shares) in (99, 100, 101)


def test_umap_is_asked_for_the_same_map_every_time(monkeypatch):
    asked = {}

    class Mapper:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, vectors):
            return vectors[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Mapper))
    vectors = np.random.default_rng(0).normal(size=(12, 5))
    assert embed(vectors).method == "UMAP" and asked == {"n_neighbors": 11, "random_state": 0, "n_jobs": 1}
    assert embed(vectors[:4]).method == "PCA"


def test_vectors_that_are_all_alike_have_one_place():
    assert not embed(np.ones((3, 4))).coordinates.any()


def test_the_places_in_the_figure_are_those_of_the_table():
    rows = [FeatureRow(f"{ODD}{number}", "", "", "") for number in range(3)]
    rows += [
        FeatureRow(f"{ODD}{number}", "c", "fgsm", defence) for number in range(3) for defence in ("", "ansm")
    ]
    drawing = feature_drawing(ODD, "demo", rows, np.random.default_rng(1).normal(size=(9, 4)))
    table = list(csv.DictReader(io.StringIO(drawing.csv)))
    groups = {"attacked: Original": ("", ""), "attacked: FGSM": ("fgsm", ""), "ansm: FGSM": ("fgsm", "ansm")}
    lines = {line.get_gid(): line for axes in drawing.draw(LIGHT).axes for line in axes.lines}
    for name, key in groups.items():
        places = [
            (float(row["x"]), float(row["y"])) for row in table if (row["attack"], row["defence"]) == key
        ]
        assert len(places) == 3
        np.testing.assert_array_equal(lines[name].get_xydata(), places)


def test_masks_are_found_as_the_benchmark_stores_it_and_passes_are_counted_beforehand(made):
    benchmark = open_benchmark(made.folder)
    (first, _), missing = open_measurements([benchmark], MeasureOptions(images=3, defences=("jpeg",)))
    assert not missing and first.configs == {"fgsm": "reference-fgsm-3", "cw": "reference-cw-2"}
    counted = []
    features, masks = measured_drawings(first, advance=counted.append)
    assert sum(counted) == first.passes == 2 * 3 * (1 + 2 * 2)
    stored = {
        (row["sample_id"], config): (row["f1_clean"], row["f1_adv"])
        for config in first.configs.values()
        for row in read_rows(
            made.folder, shard_paths(benchmark.configs[config], "folder"), ("sample_id", "f1_clean", "f1_adv")
        )
    }
    rows = list(csv.DictReader(io.StringIO(masks.csv)))
    assert len(rows) == 6
    for row in rows:
        expected = stored[row["sample_id"], row["config"]]
        assert (float(row["f1_original"]), float(row["f1_none"])) == pytest.approx(expected)
    assert len(list(csv.DictReader(io.StringIO(features.csv)))) == 15
    panels = masks.draw(LIGHT).axes
    assert len(panels) == 6 * 6
    assert [panel.get_xlabel() for panel in panels[3:6]] == [
        f"{float(rows[0][key]):.3f}" for key in ("f1_original", "f1_none", "f1_jpeg-75")
    ]


def test_weights_that_are_not_at_hand_are_said_and_a_wrong_defence_is_refused(made, monkeypatch):
    benchmark = open_benchmark(made.folder)
    with pytest.raises(UsageError, match="known defences"):
        open_measurements([benchmark], MeasureOptions(defences=("nonsense",)))
    monkeypatch.setattr(
        "afbench.workflows.reporting.measured_figures.load_attacked", lambda *arguments, **options: None
    )
    measurements, (gap,) = open_measurements([benchmark], MeasureOptions())
    assert not measurements and "not at hand" in gap.reason


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--out", "r", "--defence", "jpeg"), "go with --measure"),
        (("--paper", "--measure"), "--measure goes with --out"),
    ],
)
def test_options_that_measure_nothing_are_refused(made, afbench, arguments, words):
    ran = afbench("report", made.folder, *arguments)
    assert ran.code == 2 and words in ran.err and len(ran.err.splitlines()) == 1
