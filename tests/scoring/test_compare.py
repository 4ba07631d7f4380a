"""Whether two scores differ: paired differences by hand, ties, and what cannot be compared."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scores import per_image, write_rows, write_score

from afbench.core import AfbenchError, UsageError
from afbench.scoring import stored_scores
from afbench.scoring.compare import ALL_ATTACKS, compare
from afbench.scoring.stored_scores import find_scores, read_score


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two defences far apart, and one that differs from the first by nothing but noise."""
    folder = tmp_path_factory.mktemp("compare")
    tables = {
        "strong": per_image(0.8, seed=1),
        "twin": per_image(0.8, seed=2),
        "weak": per_image(0.2, seed=3),
    }
    return {name: write_score(folder, name, table) for name, table in tables.items()}


@pytest.fixture(scope="module")
def scores(folders):
    return {name: read_score(folder) for name, folder in folders.items()}


def f1(table):
    return 2 * table["tp"] / (2 * table["tp"] + table["fp"] + table["fn"])


def test_differences_are_those_of_the_means_over_the_same_images(scores):
    found = {row.attack: row for row in compare(scores["strong"], scores["weak"], draws=200)}
    assert list(found) == [ALL_ATTACKS, "clean", "cw", "fgsm", "noise", "pgd"]
    one, two = scores["strong"].per_image, scores["weak"].per_image
    for attack, row in found.items():
        attacked = ~one["attack"].isin(["clean", "noise"])
        chosen = attacked if attack == ALL_ATTACKS else one["attack"] == attack
        means = f1(one)[chosen].mean(), f1(two)[chosen].mean()
        original = one["f1_original"][chosen].mean()
        assert row.rows == chosen.sum()
        assert (row.f1.first, row.f1.second) == pytest.approx(means, abs=1e-12)
        assert row.f1.difference == pytest.approx(means[0] - means[1], abs=1e-12)
        assert row.rp.difference == pytest.approx(100 * (means[0] - means[1]) / original, abs=1e-9)
        assert row.f1.low < row.f1.difference < row.f1.high


def test_a_clear_gap_is_no_tie_and_noise_is_one(scores):
    apart = {row.attack: row for row in compare(scores["strong"], scores["weak"])}
    assert not apart[ALL_ATTACKS].rp.tie and apart[ALL_ATTACKS].rp.low > 0 and not apart[ALL_ATTACKS].f1.tie
    assert apart["clean"].rp.tie
    same = {row.attack: row for row in compare(scores["strong"], scores["twin"])}
    assert same[ALL_ATTACKS].rp.tie and same[ALL_ATTACKS].f1.tie


def test_the_order_only_turns_the_sign_and_a_score_ties_with_itself(scores):
    there, back = (
        compare(scores[a], scores[b], draws=200) for a, b in (("strong", "weak"), ("weak", "strong"))
    )
    for one, two in zip(there, back, strict=True):
        assert (one.rp.difference, one.rp.low, one.rp.high) == pytest.approx(
            (-two.rp.difference, -two.rp.high, -two.rp.low)
        )
    for row in compare(scores["weak"], scores["weak"], draws=50):
        assert row.f1.tie and row.f1.difference == row.f1.low == row.f1.high == 0


@pytest.mark.reliability("R14")
def test_the_order_of_rows_does_not_matter(scores, folders, tmp_path):
    table = per_image(0.2, seed=3).sample(frac=1.0, random_state=0)
    shuffled = read_score(write_score(tmp_path, "shuffled", table))
    assert compare(scores["strong"], shuffled, draws=50) == compare(
        scores["strong"], scores["weak"], draws=50
    )


def test_images_without_an_f1_count_for_neither(tmp_path):
    first, second = per_image(0.8), per_image(0.2, seed=3)
    first.loc[(first["attack"] == "pgd") & (first["sample_id"] == "demo-000"), "f1_original"] = np.nan
    second.loc[second["f1_original"].index, "f1_original"] = first["f1_original"]
    scores = [read_score(write_score(tmp_path, name, table)) for name, table in (("a", first), ("b", second))]
    found = {row.attack: row.rows for row in compare(*scores, draws=50)}
    assert found["pgd"] == 2 * 19 and found["fgsm"] == 20


def test_what_cannot_be_compared_is_refused_in_one_line(scores, tmp_path):
    other = read_score(write_score(tmp_path, "other", per_image(0.5), dataset_version="fedcba987654"))
    with pytest.raises(UsageError, match="different dataset versions, 0123456789ab and fedcba987654"):
        compare(scores["strong"], other)
    table = per_image(0.5)
    part = read_score(write_score(tmp_path, "part", table[table["sample_id"] != "demo-003"], rankable=False))
    for pair in ((scores["strong"], part), (part, scores["strong"])):
        with pytest.raises(
            UsageError, match=r"7 of '.*strong' are not in '.*part', first reference/clean/demo/demo-003"
        ):
            compare(*pair)


def test_scores_are_found_in_folders_and_folders_of_them(folders, tmp_path):
    parent = folders["strong"].parent
    assert find_scores([parent]) == sorted(folders.values())
    assert find_scores([folders["weak"], parent])[0] == folders["weak"]
    assert len(find_scores([folders["weak"], parent])) == 3
    with pytest.raises(UsageError, match="holds no score"):
        find_scores([tmp_path])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"submission_id": "../evil"}, "submission_id"),
        ({"content_sha256": "x"}, "content_sha256"),
        ({"rankable": "yes"}, "rankable"),
        ({"paper_url": "javascript:alert(1)"}, "paper_url"),
        ({"display_name": "left\u202eright"}, "invisible"),
        ({"display_name": "x" * 6000}, "too long"),
        ({"unknown": 1}, "unknown"),
        ({"bootstrap": {"draws": 1, "seed": 0, "x": [[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]}}, "nested"),
        ({"configs": [{}]}, "configs"),
        ({"aggregates": {"reference": {}}}, "aggregates"),
    ],
)
def test_a_score_that_breaks_its_schema_is_one_line(folders, tmp_path, change, told):
    folder = tmp_path / "bad"
    folder.mkdir()
    about = json.loads((folders["weak"] / "score.json").read_text())
    (folder / "score.json").write_text(json.dumps(about | change))
    (folder / "per_image.parquet").write_bytes((folders["weak"] / "per_image.parquet").read_bytes())
    with pytest.raises(AfbenchError, match=told) as error:
        read_score(folder)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 1000


@pytest.mark.parametrize("text", ["", "[]", "null", '{"f1": NaN}', "{" * 5000, '"\\ud800"', "\x00"])
def test_what_is_no_json_is_one_line(tmp_path, text):
    (tmp_path / "score.json").write_text(text)
    with pytest.raises(AfbenchError, match="score"):
        read_score(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda table: table.assign(tp=-1), "negative"),
        (lambda table: table.assign(tp=1 << 50), "beyond any image"),
        (lambda table: table.assign(f1_original=1.5), "f1_original leaves"),
        (lambda table: table.assign(phi=3.0), "phi leaves"),
        (lambda table: table.drop(columns="fn"), "lacks the columns fn"),
        (lambda table: table[:0], "no rows"),
        (lambda table: table.assign(sample_id="one"), "twice"),
        (lambda table: table.assign(source="a\nb"), "is no name"),
        (lambda table: table.assign(attack=table["attack"].where(table.index > 5, "x")), "two settings"),
        (lambda table: table.assign(tp="many"), "cannot be read"),
        (lambda table: table.assign(source=None), "missing"),
    ],
)
def test_rows_that_cannot_be_are_one_line(folders, tmp_path, spoil, told):
    (tmp_path / "score.json").write_bytes((folders["weak"] / "score.json").read_bytes())
    write_rows(tmp_path, spoil(per_image(0.2, seed=3)))
    with pytest.raises(AfbenchError, match=told) as error:
        read_score(tmp_path)
    assert len(str(error.value).splitlines()) == 1


def test_rows_that_are_no_parquet_are_one_line(folders, tmp_path):
    (tmp_path / "score.json").write_bytes((folders["weak"] / "score.json").read_bytes())
    whole = (folders["weak"] / "per_image.parquet").read_bytes()
    for data in (b"", b"PAR1", whole[: len(whole) // 2], whole[:-8] + b"\xff" * 4 + b"PAR1"):
        (tmp_path / "per_image.parquet").write_bytes(data)
        with pytest.raises(AfbenchError, match="cannot be read"):
            read_score(tmp_path)


def test_the_command_prints_a_table_or_json(afbench, folders):
    first, second = str(folders["strong"]), str(folders["weak"])
    ran = afbench("compare", first, second, "--wide")
    assert ran.code == 0 and "first  strong\nsecond weak" in ran.out
    (line,) = [line for line in ran.out.splitlines() if line.startswith("reference  all")]
    assert "differ" in line
    told = json.loads(afbench("compare", first, second, "--json").out)
    assert told["first"] == "strong" and told["attacks"][0]["attack"] == "all"
    assert afbench("compare", first, "nowhere").code == 2


ODD = (None, True, -1, 1e308, 2**70, "", "x" * 6000, "<b>", "\x00", [], {}, [[]], {"a": {"b": [1]}}, "\u202e")


def test_a_score_with_anything_in_any_place_is_read_or_refused_in_one_line(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_scores, "probe_tables", lambda *_, **__: [])  # its table is the good one
    whole = (folders["weak"] / "score.json").read_text()
    (tmp_path / "per_image.parquet").write_bytes((folders["weak"] / "per_image.parquet").read_bytes())
    random, refused = np.random.default_rng(0), 0
    for _ in range(150):
        found = place = json.loads(whole)
        while True:
            key = (
                list(place)[random.integers(len(place))]
                if isinstance(place, dict)
                else int(random.integers(len(place)))
            )
            if not (isinstance(place[key], dict | list) and place[key]) or random.random() < 0.3:
                break
            place = place[key]
        place[key] = ODD[random.integers(len(ODD))]
        (tmp_path / "score.json").write_text(json.dumps(found))
        try:
            read_score(tmp_path)
        except AfbenchError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
    assert refused > 75


def test_a_table_that_unfolds_to_too_much_is_refused_before_this_process_reads_it(
    folders, tmp_path, monkeypatch
):
    shutil.copy(folders["weak"] / "score.json", tmp_path)
    table = pa.Table.from_pandas(per_image(0.2, seed=3), preserve_index=False)
    word = pa.DictionaryArray.from_arrays(pa.array([0] * len(table)), ["x" * (1 << 20)])
    table = table.set_column(table.schema.get_field_index("sample_id"), "sample_id", word)
    pq.write_table(table, tmp_path / "per_image.parquet", store_schema=False)
    assert (tmp_path / "per_image.parquet").stat().st_size < 1 << 20
    monkeypatch.setattr(stored_scores, "_MAX_TABLE", 64 << 20)
    with pytest.raises(
        AfbenchError, match=r"per_image\.parquet' cannot be read: takes too much memory to read"
    ):
        read_score(tmp_path)
