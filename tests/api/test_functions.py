"""The functions behind ``import afbench``: a benchmark from attack to score, without the command line."""

import io
import json
import logging
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

import afbench as library
from afbench.work_progress import Progress

FGSM = {"localizer": "reference", "attack": "fgsm", "phi": "3/255", "source": "demo", "limit": 3}


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """What ``generate`` returned for three demo forgeries."""
    return library.generate(**FGSM, shard_size=2, out=tmp_path_factory.mktemp("functions") / "B", quiet=True)


@pytest.fixture(scope="module")
def submission(benchmark, tmp_path_factory):
    out = tmp_path_factory.mktemp("functions") / "submission"
    predicted = library.predict(
        data=benchmark.folder, localizer="reference", defence="median", out=out, quiet=True
    )
    assert predicted.images == predicted.to_pandas().images[0] == 6
    return out


def test_a_benchmark_comes_with_its_figures(benchmark):
    assert list(benchmark.configs) == ["reference-fgsm-3"]
    figures = library.stats(benchmark.folder)
    assert benchmark.to_pandas().equals(figures.to_pandas())
    table = library.results(benchmark.folder)
    assert figures.to_pandas().f1_adv[0] == pytest.approx(table.f1_adv.mean())
    assert figures.worst()[0]["f1_worst"] == pytest.approx(table.f1_adv.mean())
    again = library.generate(**FGSM, out=str(benchmark.folder), quiet=True)
    assert again.shards_written == 0


def test_a_plan_says_what_is_done(benchmark):
    forecast = library.plan(**FGSM, out=benchmark.folder)
    assert forecast.done.configs_left == 0
    assert forecast.to_pandas().adversarial_images[0] == 3
    assert forecast.as_json()["done"]["configs_done"] == 1


def test_a_check_returns_its_problems(benchmark, tmp_path):
    checked = library.verify(benchmark.folder, deep=True, quiet=True)
    assert checked.passed and checked.rows == 6 and checked.rescored == 3
    assert list(checked.to_pandas().columns) == ["path", "message"]
    exported = library.export(benchmark.folder, to="parquet", out=tmp_path / "copy", quiet=True)
    assert exported.images == exported.to_pandas().images[0] == 6
    stray = exported.folder / "data" / "stray"
    stray.write_text("x")
    problems = library.verify(exported.folder, fast=True, quiet=True).to_pandas()
    assert list(problems.path) == ["data/stray"]


def test_a_submission_is_scored_as_the_command_does(benchmark, submission, afbench):
    scored = library.score(submission, benchmark.folder, quiet=True)
    printed = afbench("score", submission, "--data", benchmark.folder, "--out", "score", "--json", "--quiet")
    assert printed.code == 0 and json.loads(printed.out) == scored.score
    masks = scored.to_pandas()
    assert len(masks) == 6
    (mean,) = [row["f1"] for row in scored.score["configs"] if row["attack"] == "fgsm"]
    assert masks[masks.attack == "fgsm"].f1.mean() == pytest.approx(mean)
    with pytest.raises(library.AfbenchError, match="nowhere"):
        library.score("nowhere", benchmark.folder, quiet=True)


def test_a_value_of_a_wrong_type_is_refused_in_one_line(benchmark, tmp_path):
    loaded = library.load_localizer("reference")
    submit = {"data": benchmark.folder, "out": tmp_path / "submission"}
    for call, message in (
        (
            lambda: library.evaluate(data=benchmark.folder, localizer=loaded),
            "localizer must be a text, LocalizerChoice or a list of them; found ReferenceLocalizer",
        ),
        (
            lambda: library.evaluate(data=benchmark.folder, localizer=[loaded]),
            "localizer must be a text, LocalizerChoice or a list of them; found list of ReferenceLocalizer",
        ),
        (
            lambda: library.evaluate(data=benchmark.folder, localizer=[]),
            "localizer names no localizer; give one",
        ),
        (
            lambda: library.evaluate(data=benchmark.folder, localizer="reference", defence=None),
            "defence must be a name; found NoneType; `afbench.as_defence` makes one",
        ),
        (lambda: library.predict(**submit, localizer=loaded), "localizer must be a text; found "),
        (
            lambda: library.predict(**submit, localizer="reference", defence=None),
            "defence must be a name; found NoneType",
        ),
        (
            lambda: library.results(benchmark.folder, config=3),
            "config must be a text, None or a list of them; found int 3",
        ),
        (
            lambda: library.results(benchmark.folder, config=[3]),
            "config must be a text, None or a list of them; found list of int",
        ),
    ):
        with pytest.raises(library.UsageError) as refused:
            call()
        assert message in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "submission").exists()


def test_a_defence_is_evaluated(benchmark):
    report = library.evaluate(data=benchmark.folder, localizer="reference", defence="median", quiet=True)
    assert set(report.to_pandas().defence) == {"none", "median-3"}
    with pytest.raises(library.UsageError, match="--sample goes with --figure"):
        library.evaluate(data=benchmark.folder, localizer="reference", sample="x")


def test_functions_print_nothing_but_progress(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), caplog.at_level(logging.INFO, "afbench"):
        forecast = library.plan(localizer="reference", attack="fgsm")
    assert out.getvalue() == err.getvalue() == ""
    assert caplog.messages == ["no --source given: using the embedded demo forgeries"]
    assert forecast.plan.name == "reference-demo"


def test_a_notebook_without_widgets_gets_a_bar_and_no_warning():
    code = (
        "import sys, types; sys.modules['ipykernel.zmqshell'] = types.ModuleType('shell'); "
        "sys.modules['IPython'] = types.SimpleNamespace(get_ipython=object); sys.modules['ipywidgets'] = None; "
        "from afbench.api.bars import progress_bar; progress_bar('work', 'img', 1).close()"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "work:" in shown.stderr and "Warning" not in shown.stderr


def test_a_run_that_was_interrupted_goes_on_in_the_same_process(benchmark, tmp_path, monkeypatch):
    calls = []

    def stopping_bar(*arguments, **options):
        def advance(amount):
            calls.append(amount)
            if len(calls) == 4:
                raise KeyboardInterrupt

        return Progress(advance=advance)

    keywords = {**FGSM, "shard_size": 1, "out": tmp_path / "B", "quiet": True}
    with monkeypatch.context() as patch:
        patch.setattr("afbench.api.generating.deferred_bar", stopping_bar)
        with pytest.raises(KeyboardInterrupt, match="shards are committed and kept"):
            library.generate(**keywords)
    with pytest.raises(library.UsageError, match="a run there is not finished"):
        library.results(tmp_path / "B")
    finished = library.generate(**keywords)
    assert 0 < finished.shards_written < 6
    assert library.verify(tmp_path / "B", quiet=True).passed
    assert (
        library.results(tmp_path / "B").f1_adv.tolist() == library.results(benchmark.folder).f1_adv.tolist()
    )


def test_scores_are_compared_and_ranked_as_the_commands_do(benchmark, submission, afbench, tmp_path):
    bare = tmp_path / "bare"
    library.predict(data=benchmark.folder, localizer="reference", out=bare, quiet=True)
    scores = {"median": tmp_path / "scores" / "median", "none": tmp_path / "scores" / "none"}
    for folder, out in zip((submission, bare), scores.values(), strict=True):
        library.score(folder, benchmark.folder, out=out, quiet=True)
    compared = library.compare(*scores.values())
    printed = afbench("compare", *scores.values(), "--json")
    assert json.loads(printed.out) == compared.figures
    assert printed.err.splitlines() == [f"warning: {line}" for line in compared.warnings]
    table = compared.to_pandas().set_index("attack")
    assert table.f1_difference["fgsm"] == pytest.approx(table.f1_first["fgsm"] - table.f1_second["fgsm"])
    site = library.leaderboard(tmp_path / "scores", out=tmp_path / "site", quiet=True)
    printed = afbench("leaderboard", *scores.values(), "--out", "again", "--json")
    assert json.loads(printed.out)["ranked"] == site.ranked == site.submissions == 2
    assert site.page.read_bytes() == (tmp_path / "again" / "index.html").read_bytes()
    ranks = site.to_pandas()
    assert ranks["rank"].tolist() in ([1, 1], [1, 2]) and set(ranks.localizer) == {"reference"}
    assert ranks.rp.is_monotonic_decreasing
    with pytest.raises(library.UsageError, match="names no folder"):
        library.leaderboard([], out=tmp_path / "empty")
    assert not (tmp_path / "empty").exists()
    with pytest.raises(library.UsageError, match="holds no score"):
        library.compare(scores["none"], "nowhere")


def test_a_benchmark_is_looked_into_as_the_commands_do(benchmark, afbench, tmp_path):
    sample = library.results(benchmark.folder).sample_id[0]
    for keywords in ({}, {"config": "reference-fgsm-3"}, {"sample": sample}):
        options = [part for name, value in keywords.items() for part in (f"--{name}", value)]
        contents = library.inspect(benchmark.folder, **keywords)
        assert json.loads(afbench("inspect", benchmark.folder, *options, "--json").out) == contents
    reproduced = library.reproduce(benchmark.folder, row=f"reference-fgsm-3/demo/{sample}", quiet=True)
    assert reproduced.identical and reproduced.to_pandas().levels.tolist() == [0]
    sheet = library.preview(benchmark.folder, sample=sample, out=tmp_path / "sheet.png")
    ran = afbench("preview", benchmark.folder, "--sample", sample, "--out", "printed.png")
    assert ran.code == 0 and (tmp_path / "printed.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()
    assert sheet.size[0] > 100
    for wrong, message in (({"count": 0}, "from 1 to 64"), ({"out": benchmark.folder / "x.png"}, "closed")):
        with pytest.raises(library.UsageError, match=message):
            library.preview(benchmark.folder, **wrong)
    assert not (benchmark.folder / "log" / "preview.png").exists()


def test_an_archive_is_restored(benchmark, afbench, tmp_path):
    archive = library.export(benchmark.folder, to="hdf5", with_originals=False, out=tmp_path / "archive")
    restored = library.restore(archive.folder, source="demo", out=tmp_path / "again", quiet=True)
    assert restored.images == 6 and restored.identical == restored.shards
    assert restored.to_pandas().columns.tolist() == ["source", "sample_id", "reason", "detail"]
    assert library.results(tmp_path / "again").equals(library.results(benchmark.folder))


def test_a_report_is_written_and_compared_with_the_paper_as_the_command_does(benchmark, afbench, tmp_path):
    written = library.report(benchmark.folder, out=tmp_path / "report", quiet=True)
    printed = json.loads(afbench("report", benchmark.folder, "--out", "again", "--json", "--quiet").out)
    assert printed["files"] == written.files
    assert [gap["title"] for gap in printed["missing"]] == [gap.title for gap in written.missing]
    for name in written.files:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "report" / name).read_bytes(), name
    figures = written.to_pandas().set_index("attack")
    assert figures.f1["fgsm"] == pytest.approx(library.results(benchmark.folder).f1_adv.mean())
    compared = library.report(benchmark.folder, paper=True)
    assert (
        json.loads(afbench("report", benchmark.folder, "--paper", "--all", "--json").out) == compared.records
    )
    assert len(compared.to_pandas()) == len(compared.measured) == 0
    assert (
        afbench("report", benchmark.folder, "--paper", "--latex").out.strip() == compared.to_latex().strip()
    )
    for keywords, message in (
        ({}, "give --out FOLDER"),
        ({"out": tmp_path / "x", "images": 2}, "--images must be a whole number from 3 up"),
        ({"out": tmp_path / "x", "localizer": "reference"}, "go with --measure"),
        ({"paper": True, "measure": True}, "--measure goes with --out"),
    ):
        with pytest.raises(library.UsageError, match=message):
            library.report(benchmark.folder, **keywords)
    with pytest.raises(library.UsageError, match="names no folder"):
        library.report([], out=tmp_path / "x")
