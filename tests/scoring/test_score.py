"""What a score says: counts, baselines from the benchmark alone, and the same bytes however it was packed."""

import hashlib
import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator
from submissions import (
    AUTHENTIC_IDS,
    CONFIGS,
    IDS,
    SHAPE,
    WEIGHTS,
    change,
    defended,
    make_benchmark,
    make_submission,
    pack,
    png,
    rehash,
    truth_of,
    undefended,
    write,
)

from afbench.core import AfbenchError, UsageError
from afbench.files import sha256_file
from afbench.metrics import auc, count_pixels, f1, f1_best
from afbench.resources import resource_path
from afbench.scoring import truth as truth_module
from afbench.scoring.problems import InvalidSubmission
from afbench.scoring.score import examine, score
from afbench.scoring.score_tables import build_tables
from afbench.scoring.truth import open_truth
from afbench.scoring.versions import version_of
from afbench.storage.manifests import TOP


def test_the_table_holds_the_counts_of_the_masks_and_the_baselines_of_the_benchmark(bench, submission):
    rows = examine(submission, bench).per_image
    assert list(
        rows[["localizer", "source", "config", "sample_id"]].itertuples(index=False, name=None)
    ) == sorted(
        ("loc", source, config, one)
        for source, ids in IDS.items()
        for one in ids
        for config in ("clean", "loc-pgd-1", "loc-cw-50", "loc-noise-1")
    )
    for row in rows.itertuples():
        truth = truth_of(row.source, row.sample_id)
        assert (row.tp, row.fp, row.fn, row.tn) == count_pixels(
            defended(row.source, row.sample_id, row.config), truth
        )
        before, now = (
            count_pixels(undefended(row.source, row.sample_id, one), truth) for one in ("clean", row.config)
        )
        assert row.f1_original == f1(before) and row.f1_undefended == f1(now)
        _, attack, phi, steps = CONFIGS.get(row.config, ("", "clean", None, 0))
        assert row.attack == attack and row.steps == (0 if attack == "noise" else steps)
        assert math.isnan(row.phi) if phi is None else row.phi == 1 / 255
        assert math.isnan(row.auc) and math.isnan(row.f1_best)


def test_a_score_follows_its_schema_and_its_images(bench, submission, tmp_path):
    found = score(submission, bench, out=tmp_path / "score")
    stored = json.loads((tmp_path / "score/score.json").read_text())
    assert stored == found.score
    schema = json.loads(resource_path("manifests/schema/score.schema.json").read_text())
    assert not list(Draft202012Validator(schema).iter_errors(stored))
    rows = pd.read_parquet(tmp_path / "score/per_image.parquet")
    tables = json.loads(json.dumps(build_tables(rows, seen_in_training=["loc-pgd-1"])))
    assert {key: stored[key] for key in tables} == tables
    assert stored["rankable"] and stored["dataset_version"] == version_of(stored["configs_sha256"]["loc"])
    assert stored["defence"]["params"] == {"pixels": 3} and stored["attack_knowledge"] == "oblivious"
    assert [row["config"] for row in stored["configs"] if row["seen_in_training"]] == ["loc-pgd-1"] * 2


@pytest.mark.reliability("R14")
def test_packaging_and_order_do_not_change_a_byte(bench, submission, tmp_path):
    score(submission, bench, out=tmp_path / "0")
    packed = [
        pack(submission, "zip", reverse=True),
        pack(submission, "tar"),
        pack(submission, "tar.gz", reverse=True, top="x/"),
    ]
    for number, path in enumerate(packed, 1):
        score(path, bench, out=tmp_path / str(number))
        for name in ("score.json", "per_image.parquet"):
            assert (tmp_path / str(number) / name).read_bytes() == (tmp_path / "0" / name).read_bytes()


def test_the_stored_table_carries_nothing_that_varies(bench, submission, tmp_path):
    score(submission, bench, out=tmp_path / "score")
    schema = pq.read_schema(tmp_path / "score/per_image.parquet")
    # masks alone say nothing of probabilities, so their table has no column of them
    columns = [name for name in examine(submission, bench).per_image if not name.startswith("image_")]
    assert schema.metadata is None and schema.names == columns


def test_the_content_hash_is_over_predictions_alone(bench, submission):
    before = examine(submission, bench).content_sha256
    change(submission, display_name="Another name")
    assert examine(submission, bench).content_sha256 == before
    write(submission, "predictions/loc/a/clean/a-0.png", png(truth_of("a", "a-0")))
    rehash(submission)
    assert examine(submission, bench).content_sha256 != before


def test_probability_maps_give_auc_and_the_best_f1(bench, tmp_path):
    made = make_submission(tmp_path / "maps", bench, probabilities=True)
    (made / "probs/loc/b/clean/img.png").unlink()
    rehash(made)
    rows = examine(made, bench).per_image.set_index(["config", "sample_id"])
    levels = np.where(defended("a", "a-1", "loc-cw-50"), 200, 20)
    assert rows.loc[("loc-cw-50", "a-1"), "auc"] == auc(levels, truth_of("a", "a-1"))
    assert rows.loc[("loc-cw-50", "a-1"), "f1_best"] == f1_best(levels, truth_of("a", "a-1"))
    assert math.isnan(rows.loc[("clean", "img"), "auc"]) and rows["auc"].isna().sum() == 1


def test_eight_bit_masks_count_as_one_bit_ones(bench, submission):
    before = examine(submission, bench).per_image
    for path in submission.rglob("*.png"):
        _, _, source, config, name = path.relative_to(submission).parts
        mask = defended(source, name.removesuffix(".png"), config)
        path.write_bytes(png(np.where(mask, np.uint8(255), np.uint8(0))))
    rehash(submission)
    assert examine(submission, bench).per_image.equals(before)


def test_several_localizers_stand_side_by_side(bench, tmp_path):
    made = make_submission(tmp_path / "both", bench, localizers=("loc", "other"))
    found = score(made, bench)
    assert list(found.score["aggregates"]) == ["loc", "other"]
    assert found.per_image.groupby("localizer").size().to_dict() == {"loc": 20, "other": 10}


def test_authentic_images_may_be_left_out_as_a_whole_and_give_false_positive_rates(tmp_path):
    data = make_benchmark(tmp_path / "bench", authentic=True)
    made = make_submission(tmp_path / "made", data)
    assert score(made, data).score["rankable"]
    configs = ["authentic", "clean", "loc-cw-50", "loc-noise-1", "loc-pgd-1"]
    mask = np.zeros(SHAPE, bool)
    mask[:, :7] = True
    for number, (source, one) in enumerate((source, one) for source in IDS for one in AUTHENTIC_IDS):
        if number == 3:
            change(made, configs=configs)
            with pytest.raises(InvalidSubmission) as told:
                score(made, data)
            assert told.value.problems.counts == {"AF004": 1}
        write(made, f"predictions/loc/{source}/authentic/{one}.png", png(mask))
        rehash(made)
    found = score(made, data)
    assert found.score["aggregates"]["loc"]["per_attack"]["clean"]["fpr"] == 0.25
    authentic = found.per_image[found.per_image["config"] == "authentic"]
    assert set(authentic["attack"]) == {"clean"} and authentic["f1_original"].isna().all()


def test_truth_is_read_the_same_with_no_room_to_keep_it(bench, submission, monkeypatch):
    before = examine(submission, bench).per_image
    monkeypatch.setattr(truth_module, "CACHE_BYTES", 1)
    assert examine(submission, bench).per_image.equals(before)


def test_a_benchmark_of_untrained_weights_is_refused_in_one_line(tmp_path):
    data = make_benchmark(tmp_path / "bench", untrained=True)
    made = make_submission(tmp_path / "made", data)
    with pytest.raises(AfbenchError, match="scores of random weights mean nothing") as told:
        score(made, data, out=tmp_path / "score")
    assert told.value.exit_code == 1 and not (tmp_path / "score").exists()


def test_a_damaged_benchmark_is_one_line(bench, submission, tmp_path):
    for path in ("manifests/loc-cw-50.json", "data/loc-cw-50/a-00000-of-00001.parquet", TOP):
        data = tmp_path / path.replace("/", "-")
        shutil.copytree(bench, data)
        (data / path).write_bytes((data / path).read_bytes()[:-9])
        with pytest.raises(AfbenchError) as told:
            score(submission, data)
        assert told.value.exit_code == 1 and "\n" not in str(told.value)


def test_a_changed_baseline_is_another_benchmark(bench, submission, tmp_path):
    data = tmp_path / "edited"
    shutil.copytree(bench, data)
    path = data / "manifests/loc-pgd-1.json"
    before = sha256_file(path)
    path.write_text(path.read_text().replace('"config_hash": "loc-pgd-1"', '"config_hash": "other"'))
    (data / TOP).write_text((data / TOP).read_text().replace(before, sha256_file(path)))
    with pytest.raises(InvalidSubmission) as told:
        score(submission, data)
    assert told.value.problems.counts == {"AF002": 1}


def test_two_networks_under_one_name_are_refused(bench, monkeypatch, tmp_path):
    monkeypatch.setattr("submissions.CONFIGS", CONFIGS | {"loc-fgsm-1": ("loc", "fgsm", "1/255", 1)})
    data = make_benchmark(tmp_path / "bench")
    path = data / "manifests/loc-fgsm-1.json"
    text = path.read_text().replace("1" * 64, "7" * 64)
    path.write_text(text)
    listing = json.loads((data / TOP).read_text())
    listing["files"]["manifests/loc-fgsm-1.json"]["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (data / TOP).write_text(json.dumps(listing))
    with pytest.raises(AfbenchError, match="holds two networks as 'loc'"):
        open_truth(data)


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("file", "is a file"),
        ("submission/score", "lies in"),
        ("bench/score", "lies in"),
        ("taken", "holds the score of"),
    ],
)
def test_an_output_folder_that_cannot_take_the_score_is_a_usage_error(tmp_path, out, told):
    data = make_benchmark(tmp_path / "bench")
    made = make_submission(tmp_path / "submission", data)
    (tmp_path / "file").write_text("mine")
    write(tmp_path, "taken/score.json", b'{"submission_id": "another"}')
    with pytest.raises(UsageError, match=told):
        score(made, data, out=tmp_path / out)
    assert not (tmp_path / out / "per_image.parquet").exists()


def test_scoring_again_replaces_the_score_of_the_same_submission(bench, submission, tmp_path):
    score(submission, bench, out=tmp_path / "score")
    change(submission, display_name="Renamed")
    score(submission, bench, out=tmp_path / "score")
    assert json.loads((tmp_path / "score/score.json").read_text())["display_name"] == "Renamed"


def test_afbench_score_needs_no_torch(bench, submission):
    code = (
        "import sys, afbench\n"
        f"found = afbench.score({str(submission)!r}, {str(bench)!r})\n"
        "print(found.score['submission_id'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["test-1", "False"]


BEHIND = {"loc_shift-pgd-1": ("loc_shift", "pgd", "1/255", 10)}


def test_an_adaptive_score_of_a_localizer_of_its_own_is_over_the_bare_one(tmp_path, monkeypatch):
    monkeypatch.setitem(CONFIGS, "loc_shift-pgd-1", BEHIND["loc_shift-pgd-1"])
    monkeypatch.setitem(WEIGHTS, "loc_shift", "3" * 64)
    options = {"localizers": ("loc_shift",), "attack_knowledge": "adaptive"}
    alone = make_benchmark(tmp_path / "alone", configs=BEHIND)
    made = make_submission(tmp_path / "submission", alone, **options)
    with pytest.raises(AfbenchError, match=r"over the F1 of the bare localizer.*attacked 'loc_shift' as a"):
        score(made, alone)
    assert score(make_submission(made, alone, localizers=("loc_shift",)), alone).score["rankable"]
    both = make_benchmark(tmp_path / "both", configs={**BEHIND, "loc-pgd-1": CONFIGS["loc-pgd-1"]})
    rows = score(make_submission(tmp_path / "again", both, **options), both).per_image
    for row in rows.itertuples():
        bare = f1(
            count_pixels(undefended(row.source, row.sample_id, "clean"), truth_of(row.source, row.sample_id))
        )
        assert row.f1_original == row.f1_undefended == bare


@pytest.mark.parametrize("image_score", ["top1", "own"])
def test_a_submissions_own_problems_come_before_a_score_that_it_lacks(bench, tmp_path, image_score):
    junk = tmp_path / "x.zip"
    junk.write_bytes(b"junk")
    with pytest.raises(InvalidSubmission, match="AF008"):
        examine(junk, bench, image_score=image_score)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InvalidSubmission):
        examine(empty, bench, image_score=image_score)
