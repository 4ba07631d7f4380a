"""Who stands where: ranks and ties, what is not ranked, and scores that cannot share a board."""

import json

import pandas as pd
import pytest
from scores import GRID, VERSION, per_image, write_score

from afbench.core import AfbenchError, UsageError
from afbench.reports.site import render_site
from afbench.scoring.boards import build_boards
from afbench.scoring.stored_scores import read_score


@pytest.fixture
def put(tmp_path):
    """Write and read a score: ``put("jpeg", 0.4, seed=1)``."""

    def write(name, kept, *, seed=0, table=None, localizers=("reference",), **changes):
        table = per_image(kept, seed=seed, localizers=localizers) if table is None else table
        return read_score(write_score(tmp_path, name, table, **changes))

    return write


def only_table(found):
    (board,) = found["boards"]
    (table,) = board["tables"]
    return table


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Two defences that cannot be told apart, a weaker one, and none."""
    folder = tmp_path_factory.mktemp("board")
    kept = {"weak": 0.2, "strong": 0.8, "twin": 0.8, "none": 0.0}
    return [
        read_score(write_score(folder, name, per_image(each, seed=seed)))
        for seed, (name, each) in enumerate(kept.items())
    ]


@pytest.fixture(scope="module")
def board(four):
    return build_boards(four)


def test_the_best_comes_first_and_those_that_cannot_be_told_apart_tie(board):
    table = only_table(board)
    assert [row["rank"] for row in table["ranked"]] == [1, 1, 3, 4]
    assert {row["submission_id"] for row in table["ranked"][:2]} == {"strong", "twin"}
    values = [row["micro"]["rp"] for row in table["ranked"]]
    assert values == sorted(values, reverse=True)
    assert table["attacks"] == ["fgsm", "pgd", "cw", "noise"]
    assert table["images"] == 20 * 5 and table["sources"] == ["demo", "synthetic"]


@pytest.fixture(scope="module")
def specialists(tmp_path_factory):
    """A defence that holds against every attack but the ensemble, and one that holds against the ensemble alone."""
    folder = tmp_path_factory.mktemp("specialists")
    grid = [*GRID, ("strong", 3, 120)]
    weak, robust = (per_image(kept, grid=grid) for kept in (0.2, 0.8))
    mixed = [
        pd.concat([first[first["attack"] != "strong"], second[second["attack"] == "strong"]])
        for first, second in ((robust, weak), (weak, robust))
    ]
    names = ("average", "worst")
    return [read_score(write_score(folder, name, table)) for name, table in zip(names, mixed, strict=True)]


def test_the_ensemble_ranks_where_a_benchmark_holds_it(specialists):
    boards = build_boards(specialists)
    table = only_table(boards)
    assert table["ranked_by"] == "strong" and table["attacks"][0] == "strong"
    assert [row["submission_id"] for row in table["ranked"]] == ["worst", "average"]
    first, second = table["ranked"]
    assert first["micro"]["rp"] < second["micro"]["rp"]
    assert first["robustness"] == first["per_attack"]["strong"]
    # an all-ones mask is compared on the images that rank
    strong = specialists[1].per_image.query("attack == 'strong' and localizer == 'reference'")
    forged, pixels = strong["tp"] + strong["fn"], strong[["tp", "fp", "fn", "tn"]].sum(axis=1)
    assert first["chance"]["f1"] == pytest.approx((2 * forged / (forged + pixels)).mean())
    page = render_site(boards)["index.html"].decode()
    assert "Ranked by RP under strong" in page and page.index("RP under strong") < page.index("Worst case RP")
    assert f"{first['robustness']['rp']:.1f}" in page


def test_all_attacks_rank_where_there_is_no_ensemble(board):
    table = only_table(board)
    assert table["ranked_by"] == "all"
    assert all(row["robustness"] == row["micro"] for row in table["ranked"])
    assert "Ranked by RP over all attacks" in render_site(board)["index.html"].decode()


def test_a_score_that_lists_attacks_in_another_order_still_opens(tmp_path):
    table = per_image(0.4)
    folder = write_score(tmp_path, "older", table)
    record = json.loads((folder / "score.json").read_text())
    record["configs"].reverse()
    (folder / "score.json").write_text(json.dumps(record))
    assert only_table(build_boards([read_score(folder)]))["ranked"]


def test_the_board_is_the_same_for_any_order_of_scores(four, board):
    assert json.dumps(build_boards(four[::-1])) == json.dumps(board)


def test_a_board_is_of_one_version_and_a_table_of_one_localizer(put):
    scores = [
        put("two", 0.4, localizers=("code", "mvss")),
        put("one", 0.6, seed=1, localizers=("mvss",)),
        put("later", 0.6, seed=2, dataset_version="fedcba987654"),
    ]
    first, second = build_boards(scores)["boards"]
    assert (first["dataset_version"], second["dataset_version"]) == (VERSION, "fedcba987654")
    names = {
        table["localizer"]: [row["submission_id"] for row in table["ranked"]] for table in first["tables"]
    }
    assert names == {"code": ["two"], "mvss": ["one", "two"]}
    assert [row["submission_id"] for row in second["tables"][0]["ranked"]] == ["later"]


def test_what_cannot_be_ranked_is_listed_apart_with_its_reason(put):
    whole = per_image(0.9)
    scores = [
        put("whole", 0.5),
        put("part", 0, table=whole[whole["source"] == "demo"], rankable=False, missing=9),
        put("random", 0.9, seed=2, untrained=True),
    ]
    found = build_boards(scores)
    table = only_table(found)
    assert [row["submission_id"] for row in table["ranked"]] == ["whole"]
    assert [(row["submission_id"], row["why"]) for row in table["unranked"]] == [
        ("part", "it covers a part of the images"),
        ("random", "its localizer has random weights"),
    ]
    places = {one["submission_id"]: one["localizers"][0]["rank"] for one in found["submissions"]}
    assert places == {"whole": 1, "part": None, "random": None}


def test_an_adaptive_score_fills_the_column_of_the_same_defence_and_has_no_rank(put):
    defence = {"type": "jpeg", "params": {"quality": 75}}
    scores = [
        put("jpeg", 0.5, defence=defence),
        put("none", 0.1, seed=1),
        put("through", 0.05, localizers=("reference_jpeg",), attack_knowledge="adaptive", defence=defence),
        put("through-more", 0.01, localizers=("reference_jpeg",), attack_knowledge="adaptive", defence=defence, dataset_version="fedcba987654"),
    ]  # fmt: skip
    found = build_boards(scores)
    table = next(table for table in found["boards"][0]["tables"] if table["localizer"] == "reference")
    first, second = table["ranked"]
    worst = next(one for one in found["submissions"] if one["submission_id"] == "through-more")
    assert first["adaptive"]["page"] == worst["page"] and second["adaptive"] is None
    assert first["adaptive"]["rp"] < first["micro"]["rp"]
    assert all(not table["ranked"] for table in found["boards"][1]["tables"])


def test_the_page_says_beside_a_rank_whether_an_attack_knew_the_defence(put):
    bare = per_image(0.0).assign(
        f1_undefended=lambda table: 2 * table.tp / (2 * table.tp + table.fp + table.fn)
    )
    noisy = per_image(0.0, seed=1).assign(f1_undefended=bare["f1_undefended"])
    jpeg = {"type": "jpeg", "params": {"quality": 75}}
    undefended = {"type": "none", "params": {}}
    scores = [
        put("median", 0.5, table=noisy),
        put("bare", 0.0, table=bare, defence=undefended),
        put("claims-none", 0.0, table=noisy, defence=undefended),
        put("jpeg", 0.5, table=noisy, defence=jpeg),
        put("through", 0.05, localizers=("reference_jpeg",), attack_knowledge="adaptive", defence=jpeg),
    ]
    boards = build_boards(scores)
    page = render_site(boards)["index.html"].decode()
    assert page.index(">RP over all attacks<") < page.index(">Adaptive RP<") < page.index(">Worst case RP<")
    rows = {
        name: page[page.index(f"<bdi>{name}</bdi></a>") :].split("</tr>")[0]
        for name in ("median", "bare", "claims-none", "jpeg")
    }
    assert [name for name, row in rows.items() if "not measured" in row] == ["median", "claims-none"]
    ranked = {
        row["submission_id"]: row
        for board in boards["boards"]
        for table in board["tables"]
        for row in table["ranked"]
    }
    bare_rp = f"{ranked['bare']['robustness']['rp']:.1f}<"
    assert rows["bare"].count(bare_rp) >= 2
    assert f">{ranked['jpeg']['adaptive']['rp']:.1f}</a>" in rows["jpeg"]
    assert "under FGSM, PGD, C&amp;W<" in rows["jpeg"] and ranked["jpeg"]["adaptive"]["attacks"] == [
        "fgsm",
        "pgd",
        "cw",
    ]


JPEG = {"type": "jpeg", "params": {"quality": 75}}


def composite(kept=0.05, **changes):
    """Rows of localizer and defence attacked as a localizer of its own: over what both find in the originals."""
    table = per_image(kept).assign(localizer="reference_jpeg")
    return table.assign(f1_original=0.8 * table["f1_original"], f1_undefended=0.0, **changes)


def through(table):
    return {"table": table, "attack_knowledge": "adaptive", "defence": JPEG}


def test_an_adaptive_rp_is_over_the_denominator_of_the_oblivious_one_beside_it(put):
    scores = [put("jpeg", 0.5, defence=JPEG), put("through", 0, **through(composite()))]
    own = scores[1].record["aggregates"]["reference_jpeg"]["micro"]
    found = build_boards(scores)
    tables = {table["localizer"]: table for table in found["boards"][0]["tables"]}
    (row,), (adaptive,) = tables["reference"]["ranked"], tables["reference_jpeg"]["adaptive"]
    assert row["adaptive"]["rp"] == pytest.approx(0.8 * own["rp"])
    assert row["adaptive"]["rp"] == adaptive["micro"]["rp"] and own["f1"] == adaptive["micro"]["f1"]
    page = next(one for one in found["submissions"] if one["submission_id"] == "through")
    assert page["localizers"][0]["aggregates"]["micro"]["rp"] == row["adaptive"]["rp"]
    assert any("over the F1 of the bare localizer" in text for text in page["warnings"])


@pytest.mark.parametrize(
    "others",
    [
        lambda table: table[table["sample_id"] != "demo-001"],
        lambda table: table.assign(sample_id=table["sample_id"].str.replace("demo-001", "demo-100")),
        lambda table: table.assign(tn=table["tn"] + 1),
    ],
)
def test_an_adaptive_rp_of_other_images_is_not_shown_beside_and_that_is_said(put, others):
    found = build_boards([put("jpeg", 0.5, defence=JPEG), put("through", 0, **through(others(composite())))])
    tables = {table["localizer"]: table for table in found["boards"][0]["tables"]}
    assert tables["reference"]["ranked"][0]["adaptive"] is None
    (note,) = tables["reference_jpeg"]["adaptive"][0]["notes"]
    assert note.startswith("not shown beside 'jpeg': ")


def test_attacks_a_defence_was_trained_on_are_named(put):
    row = only_table(build_boards([put("seen", 0.5, defence={"trained_on": ["fgsm", "reference-cw-50"]})]))[
        "ranked"
    ][0]
    assert row["seen"] == ["fgsm", "cw"]


def test_a_score_whose_version_marked_seen_attacks_by_config_is_marked_by_attack(put):
    folder = put("older", 0.5, defence={"trained_on": ["reference-cw-7"]}).folder
    record = json.loads((folder / "score.json").read_text())
    assert record["aggregates"]["reference"]["per_attack"]["cw"]["seen_in_training"]
    record["aggregates"]["reference"]["per_attack"]["cw"]["seen_in_training"] = False
    (folder / "score.json").write_text(json.dumps(record))
    assert only_table(build_boards([read_score(folder)]))["ranked"][0]["seen"] == ["cw"]


def test_figures_that_do_not_follow_from_the_images_are_refused(put, tmp_path):
    folder = put("honest", 0.5).folder
    about = json.loads((folder / "score.json").read_text())
    about["aggregates"]["reference"]["micro"]["rp"] += 5
    (folder / "score.json").write_text(json.dumps(about))
    with pytest.raises(AfbenchError, match=r"aggregates.reference.micro.rp is .*, the images say"):
        build_boards([read_score(folder)])
    about["aggregates"] = {}
    (folder / "score.json").write_text(json.dumps(about))
    with pytest.raises(AfbenchError, match="aggregates has other keys"):
        build_boards([read_score(folder)])


def test_the_same_content_twice_and_other_baselines_are_refused(put):
    first = put("first", 0.5)
    copy = put("copy", 0.5, content_sha256=first.record["content_sha256"])
    with pytest.raises(UsageError, match="AF016"):
        build_boards([first, copy])
    easier = per_image(0.5, seed=1)
    liar = put("liar", 0, table=easier.assign(f1_original=0.5 * easier["f1_original"]))
    with pytest.raises(UsageError, match="disagree about the undefended localizer"):
        build_boards([first, liar])
    short = put("short", 0, table=easier[easier["sample_id"] != "demo-001"])  # says it is rankable
    with pytest.raises(UsageError, match="score different images"):
        build_boards([first, short])


def test_page_names_are_safe_and_differ(board):
    pages = [one["page"] for one in board["submissions"]]
    assert len(set(pages)) == 4
    for page in pages:
        assert page.startswith("submission-") and page.endswith(".html") and page[11:-5].isalnum()


def test_curves_start_at_the_original_and_follow_the_means(four, board):
    score = four[0]
    one = next(one for one in board["submissions"] if one["submission_id"] == "weak")
    curves = {curve["attack"]: curve for curve in one["localizers"][0]["curves"]}
    assert list(curves) == ["fgsm", "pgd", "cw", "noise"]
    assert [point["strength"] for point in curves["cw"]["points"]] == [0, 50, 250]
    assert [255 * point["strength"] for point in curves["pgd"]["points"]] == pytest.approx([0, 1, 3])
    rows = score.per_image
    for point, config in zip(
        curves["pgd"]["points"],
        ("clean", "reference-pgd-1", "reference-pgd-3"),
        strict=True,
    ):
        here = rows[rows["config"] == config]
        assert point["f1"] == pytest.approx(here["f1"].mean()) and point["undefended"] == pytest.approx(
            here["f1_undefended"].mean()
        )
        assert point["f1_ci"][0] < point["f1"] < point["f1_ci"][1]
    assert curves["cw"]["strength"] == "steps" and curves["pgd"]["strength"] == "phi"
