"""Forged images against authentic ones, each by one number: against scikit-learn, and apart from every figure of pixels."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from submissions import (
    AUTHENTIC_IDS,
    change,
    make_benchmark,
    make_submission,
    png,
    rehash,
    undefended,
    write,
)

import afbench as library
from afbench.core import AfbenchError, UsageError
from afbench.metrics import top_mean
from afbench.reports.image_table import image_csv, image_table, shown_score
from afbench.scoring.image_level import image_level, require_score
from afbench.scoring.score import score
from afbench.scoring.stored_scores import read_score, verified_tables

THRESHOLD = {"loc": 0.5}


def row(config, sample, found, *, top=math.nan, source="a", own=math.nan):
    """One image of 1,000 pixels, of which ``found`` are called forged."""
    attack = "clean" if config in ("clean", "authentic") else config.split("-")[1]
    return {
        **{"localizer": "loc", "source": source, "config": config, "attack": attack, "sample_id": sample},
        **{"tp": 0, "fp": found, "fn": 0, "tn": 1000 - found},
        **{"image_max": top, "image_top1": top, "image_own": own},
    }


def table(forged, authentic, *, config="clean", source="a"):
    """Images of one score each."""
    rows = [row(config, f"f{number}", 10, top=top, source=source) for number, top in enumerate(forged)]
    rows += [
        row("authentic", f"a{number}", 0, top=top, source=source) for number, top in enumerate(authentic)
    ]
    return pd.DataFrame(rows)


def of(figures, **wanted):
    (record,) = [record for record in figures if wanted.items() <= record.items()]
    return record


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.51, 0.9, 1.0]), min_size=1, max_size=30),
    st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.51, 0.9, 1.0]), min_size=1, max_size=30),
)
def test_figures_are_those_of_scikit_learn_with_intervals_around_them(forged, authentic):
    record = of(image_level(table(forged, authentic), THRESHOLD), score="top1")
    labels, scores = [1] * len(forged) + [0] * len(authentic), np.array([*forged, *authentic])
    assert record["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert record["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, scores > 0.5))
    assert record["fpr"] == pytest.approx(np.mean(np.array(authentic) > 0.5))
    for name in ("auc", "balanced_accuracy", "fpr"):
        low, high = record[f"{name}_ci"]
        # even where a few images are told apart without an error, more of them may not be
        assert 0 <= low <= record[name] + 1e-12 and record[name] - 1e-12 <= high <= 1 and low < high
    assert (record["images"], record["authentic"], record["threshold"]) == (len(forged), len(authentic), 0.5)


@pytest.mark.parametrize(("forged", "authentic", "true_auc"), [(12, 12, 0.8556), (36, 120, 0.8556)])
def test_intervals_of_the_auc_cover_the_truth(forged, authentic, true_auc):
    """Two normal distributions 1.5 apart: AUC is Phi(1.5 / sqrt 2)."""
    random, hits = np.random.default_rng(0), 0
    for _ in range(200):
        rows = table(random.normal(1.5, 1, forged), random.normal(0, 1, authentic))
        low, high = of(image_level(rows, THRESHOLD), score="top1")["auc_ci"]
        hits += low <= true_auc <= high
    assert 184 <= hits <= 200


def test_the_top_of_an_image_is_the_mean_of_its_highest_hundredth():
    values = np.arange(1000).reshape(20, 50)
    assert top_mean(values) == np.mean(range(990, 1000))
    assert top_mean(values[:1, :7]) == 6  # at least one pixel
    assert top_mean(np.arange(150)) == 148.5


def test_masks_alone_are_scored_by_their_share_and_by_any_pixel_called_forged():
    rows = [row("clean", "x", 50), row("clean", "y", 0), row("authentic", "r", 10), row("authentic", "s", 0)]
    (record,) = image_level(
        pd.DataFrame(rows).drop(columns=["image_max", "image_top1", "image_own"]), THRESHOLD
    )
    assert (record["score"], record["threshold"]) == ("share", 0.0)
    assert (record["auc"], record["tpr"], record["fpr"]) == (0.625, 0.5, 0.5)


def test_settings_of_an_attack_count_alike_and_each_image_once():
    rows = pd.concat(
        [
            table([0.9, 0.8], [0.3, 0.7]),
            table([0.6, 0.2], [], config="loc-pgd-1"),
            table([0.4, 0.1], [], config="loc-pgd-3"),
        ]
    )
    figures = [record for record in image_level(rows, THRESHOLD) if record["score"] == "top1"]
    assert [record["attack"] for record in figures] == ["clean", "pgd", "worst-case"]
    assert figures[0]["auc"] == 1 and figures[0]["balanced_accuracy"] == 0.75
    # of 8 pairs the forged one is higher in 2: 0.6 and 0.4 above 0.3
    assert (figures[1]["auc"], figures[1]["images"], figures[1]["authentic"]) == (0.25, 2, 2)
    assert (figures[1]["tpr"], figures[1]["fpr"]) == (0.25, 0.5)
    # the lowest of each image: 0.4 and 0.1, of which the first is above 0.3
    assert (figures[2]["auc"], figures[2]["images"], figures[2]["tpr"]) == (0.25, 2, 0.0)


def test_a_source_without_authentic_images_has_no_figure_and_is_left_out_of_all():
    rows = [table([0.9], [0.1]), table([0.2], [0.6], source="b"), table([0.8, 0.1], [], source="c")]
    figures = image_level(pd.concat(rows), THRESHOLD)
    assert {record["source"] for record in figures} == {"a", "b", "all"}
    assert of(figures, source="all", score="max")["images"] == 2
    assert image_level(rows[2], THRESHOLD) == []
    text = image_table(figures, "top1", {"a", "b", "c"})
    assert text.endswith("no authentic images, so no such figures: c")
    assert "no figures, for no authentic images were localized" in image_table([], "", {"c"})


def test_a_score_that_some_images_lack_has_no_figures():
    rows = table([0.9, math.nan], [0.1])
    assert [record["score"] for record in image_level(rows, THRESHOLD)] == ["share"]
    assert [record["score"] for record in image_level(table([0.9], [0.1]), {})] == ["share"]


def test_the_table_fits_a_terminal_and_the_csv_holds_every_score():
    figures = image_level(table([0.9, 0.4], [0.1, 0.6]), THRESHOLD)
    assert shown_score(figures) == "top1"
    text = image_table(figures, "top1", {"a"}, 80)
    assert max(map(len, text.splitlines())) <= 80 and "above 0.5" in text and "before attack" in text
    lines = image_csv(figures).splitlines()
    assert len(lines) == 1 + len(figures) == 4 and lines[0].startswith(
        "localizer,source,attack,score,threshold"
    )


@pytest.fixture(scope="module")
def submitted(tmp_path_factory):
    """A benchmark with authentic images, and a submission of masks and maps of all of them."""
    folder = tmp_path_factory.mktemp("image-level")
    data = make_benchmark(folder / "bench", authentic=True)
    made = make_submission(folder / "made", data)
    configs = ["authentic", "clean", "loc-cw-50", "loc-noise-1", "loc-pgd-1"]
    change(made, configs=configs, prediction={"kind": "mask+probability", "threshold": 0.5})
    for source in ("a", "b"):
        for number, name in enumerate(AUTHENTIC_IDS):
            levels = np.full((20, 28), 40 + 100 * number, np.uint8)
            write(made, f"predictions/loc/{source}/authentic/{name}.png", png(levels > 127))
            write(made, f"probs/loc/{source}/authentic/{name}.png", png(levels))
    for path in sorted((made / "predictions/loc").glob("*/[cl]*/*.png")):
        _, source, config, name = path.relative_to(made / "predictions").parts
        levels = np.where(undefended(source, path.stem, config), np.uint8(200), np.uint8(20))
        write(made, f"probs/loc/{source}/{config}/{name}", png(levels))
    rehash(made)
    return data, made, folder


def test_a_submission_of_maps_is_scored_by_them_and_its_stored_score_follows(submitted):
    data, made, folder = submitted
    record = score(made, data, out=folder / "score").score
    figures = record["image_level"]
    assert {row["score"] for row in figures} == {"share", "max", "top1"}
    top = of(figures, source="all", attack="clean", score="top1")
    # forged images reach 200 / 255, authentic ones 40 / 255 or 140 / 255, which is above one half
    assert (top["auc"], top["fpr"], top["tpr"], top["images"], top["authentic"]) == (1.0, 0.5, 1.0, 5, 4)
    assert "image_level" not in record["aggregates"]["loc"] and "auc" in record["aggregates"]["loc"]["micro"]
    stored = read_score(folder / "score")
    assert verified_tables(stored)["image_level"] == figures


def test_a_forged_figure_of_whole_images_is_refused(submitted, tmp_path):
    data, made, _ = submitted
    score(made, data, out=tmp_path / "score")
    stored = read_score(tmp_path / "score")
    stored.record["image_level"][0]["auc"] = 0.987
    with pytest.raises(AfbenchError, match=r"image_level\[0\].auc is 0.987"):
        verified_tables(stored)


def test_a_score_of_images_that_nobody_made_is_refused_before_anything_is_written(submitted, afbench):
    data, made, folder = submitted
    require_score([], "own")
    counted = []
    with pytest.raises(UsageError, match=r"own is not known here; a submission holds masks and maps only"):
        score(made, data, out=folder / "own", image_score="own", advance=counted.append)
    assert not counted and not (folder / "own").exists()
    some = shutil.copytree(made, folder / "some")
    next(some.glob("probs/loc/a/authentic/*.png")).unlink()
    next(some.glob("probs/loc/b/authentic/*.png")).unlink()
    rehash(some)
    ran = afbench("score", some, "--data", data, "--out", "score", "--image-score", "top1", "--json")
    assert ran.code == 2 and not Path("score").exists()
    assert "--image-score top1 is not known here; known: share; it needs the probability maps" in ran.err
    shutil.rmtree(some / "probs")
    change(some, prediction={"kind": "mask", "threshold": 0.5})
    rehash(some)
    with pytest.raises(UsageError, match=r"max is not known here; the submission holds masks only"):
        score(some, data, out=folder / "max", image_score="max", advance=counted.append)
    assert not counted and not (folder / "max").exists()
    ran = afbench("score", some, "--data", data, "--out", "score", "--image-score", "share")
    assert ran.code == 0 and Path("score").exists()
    with pytest.raises(UsageError, match="--image-score must be one of top1, max, share, own; found 'mean'"):
        library.score(some, data, image_score="mean")
