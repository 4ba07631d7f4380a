"""The leaderboard's pages: whole without scripts, closed to strangers' markup, the same bytes every time, readable by all."""

import copy
import hashlib
import json
import re
import sys
from base64 import b64encode
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "scoring"))

from browser import PROGRAM, browser
from scores import per_image, write_score

from afbench.core import UsageError
from afbench.reports.plots import HEIGHT, WIDTH, PlotLine, Point, f1_panel, interval_bar
from afbench.reports.site import is_https, render_site, write_site
from afbench.scoring.boards import build_boards
from afbench.scoring.stored_scores import find_scores, read_score

EVIL = '<script>alert("x")</script>'
STYLE = Path(__file__).parents[1] / "afbench/reports/templates/style.css"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Scores of two dataset versions, one with markup for a name, one of a part."""
    folder = tmp_path_factory.mktemp("site") / "scores"
    write_score(
        folder, "jpeg", per_image(0.5, seed=1), defence={"trained_on": ["fgsm"], "params": {"quality": 75}}
    )
    write_score(
        folder, "none", per_image(0.0, seed=2), warnings=["AF015: 3 masks are of one value, first x/y"]
    )
    write_score(
        folder,
        "evil",
        per_image(0.3, seed=3),
        display_name=EVIL,
        authors=[EVIL, '" onmouseover="alert(1)'],
        paper_url="https://example.org/?a=1&b='2'",
        defence={"type": EVIL, "params": {EVIL: EVIL}, "extra_data": EVIL, "trained_on": [EVIL]},
    )
    table = per_image(0.4, seed=4)
    write_score(folder, "part", table[table["source"] == "demo"], rankable=False, missing=1)
    write_score(folder, "later", per_image(0.4, seed=5), dataset_version=EVIL)
    return folder


@pytest.fixture(scope="module")
def boards(folders):
    return build_boards([read_score(folder) for folder in find_scores([folders])])


@pytest.fixture(scope="module")
def files(boards):
    return render_site(boards)


@pytest.fixture(scope="module")
def site(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    write_site(files, folder)
    return folder


class Elements(HTMLParser):
    """Every element of a page with its attributes and the text right inside."""

    def __init__(self, page):
        super().__init__()
        self.found, self._open = [], []
        self.feed(page.decode())
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes), []))
        if tag not in ("meta", "link", "input"):
            self._open.append(self.found[-1])

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes), []))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, text):
        if self._open:
            self._open[-1][2].append(text)

    def named(self, tag):
        return [(attributes, "".join(text)) for name, attributes, text in self.found if name == tag]


@pytest.fixture(scope="module")
def pages(files):
    return {name: Elements(data) for name, data in files.items() if name.endswith(".html")}


def page_of(boards, name):
    return next(one["page"] for one in boards["submissions"] if one["submission_id"] == name)


def test_there_is_a_page_for_every_submission_and_the_index_is_written_last(files, boards):
    assert list(files)[-2:] == ["leaderboard.json", "index.html"]
    assert set(files) == {one["page"] for one in boards["submissions"]} | {"leaderboard.json", "index.html"}
    assert json.loads(files["leaderboard.json"]) == boards


def test_the_same_scores_give_the_same_bytes(files, folders):
    again = [read_score(folder) for folder in reversed(find_scores([folders]))]
    assert render_site(build_boards(again)) == files


def test_markup_in_names_is_text(pages, boards, files):
    for name, page in pages.items():
        scripts = page.named("script")
        assert len(scripts) == (name == "index.html") and not any("alert" in text for _, text in scripts)
        for tag, attributes, _ in page.found:
            assert not any(key.startswith("on") or key == "style" for key in attributes), (tag, attributes)
    headline = "".join(pages[page_of(boards, "evil")].named("bdi")[0][1])
    assert headline == EVIL
    assert b"&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in files["index.html"]


def test_links_lead_to_files_of_the_site_or_to_https(pages, files, boards):
    for page in pages.values():
        for attributes, _ in page.named("a"):
            target = attributes["href"]
            if target.startswith("#"):
                assert any(found.get("id") == target[1:] for _, found, _ in page.found)
            else:
                assert target in files or target.startswith("https://")
            if target.startswith("https:"):
                assert set(attributes["rel"].split()) >= {"nofollow", "noopener", "noreferrer"}
        assert not [tag for tag, _, _ in page.found if tag in ("img", "iframe", "object", "embed", "base")]
        assert [attributes["href"] for attributes, _ in page.named("link")] == ["data:,"]


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://example.org/a?b=c#d", True),
        ("http://example.org", False),
        ("javascript:alert(1)", False),
        ("https:example.org", False),
        ("https://", False),
        ("https://user@example.org", False),
        ("https://[", False),
        ("https://example.org/ x", False),
        ("https://example.org/\u202e", False),
        ("HTTPS://example.org", False),
        ("", False),
    ],
)
def test_only_https_addresses_become_links(boards, url, fine):
    assert is_https(url) is fine
    changed = copy.deepcopy(boards)
    for one in changed["submissions"]:
        one["code_url"] = url
    name = page_of(boards, "jpeg")
    found = [attributes["href"] for attributes, _ in Elements(render_site(changed)[name]).named("a")]
    assert (url in found) is fine


def test_the_policy_allows_our_style_and_script_and_nothing_else(pages):
    for page in pages.values():
        (policy,) = [
            attributes["content"]
            for attributes, _ in page.named("meta")
            if attributes.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
        for tag in ("style", "script"):
            for _, text in page.named(tag):
                digest = b64encode(hashlib.sha256(text.encode()).digest()).decode()
                assert f"{tag}-src 'sha256-{digest}'" in policy


def test_tables_can_be_heard(pages):
    for page in pages.values():
        identifiers = [attributes["id"] for _, attributes, _ in page.found if "id" in attributes]
        assert len(identifiers) == len(set(identifiers))
        for _, attributes, _ in page.found:
            for name in (attributes.get("aria-labelledby") or "").split():
                assert name in identifiers
        assert len(page.named("caption")) == len(page.named("table")) > 0
        assert all(attributes.get("scope") in ("row", "col") for attributes, _ in page.named("th"))
        assert page.named("html")[0][0]["lang"] == "en"
        assert page.named("a")[0][0] == {"class": "skip", "href": "#main"}
        levels = [int(tag[1]) for tag, _, _ in page.found if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
        for attributes, _ in page.named("svg"):
            assert attributes.get("aria-hidden") == "true" or attributes["role"] == "img"
        assert len(page.named("desc")) == len(page.named("figure")) == len(page.named("details"))
    assert any(
        attributes.get("aria-sort") == "ascending" for attributes, _ in pages["index.html"].named("th")
    )


def test_the_index_shows_every_column_and_never_mixes_versions(pages, boards):
    (first, second) = sorted(boards["boards"], key=lambda board: board["dataset_version"] == EVIL)
    assert [row["submission_id"] for row in second["tables"][0]["ranked"]] == ["later"]
    text = " ".join("".join(text) for _, _, text in pages["index.html"].found)
    for head in ("Rank", "RP", "Worst case RP", "Adaptive RP", "RP on originals", "Clean F1", "C&W", "Seen attacks", "Extra data"):  # fmt: skip
        assert head in text
    for row in first["tables"][0]["ranked"]:
        for figure in (
            f"{row['micro']['rp']:.1f}",
            f"{row['worst_case']['rp']:.1f}",
            f"{row['clean']['f1']:.3f}",
        ):
            assert figure in text
    assert "quality 75" in text and "it covers a part of the images" in text
    assert "AF015: 3 masks are of one value" in text and "first x/y" not in text


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(scheme):
    blocks = re.findall(r":root \{(.*?)\}", STYLE.read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", blocks[scheme == "dark"]))

    def contrast(one, other):
        high, low = sorted((luminance(colours[one]), luminance(colours[other])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for text in ("ink", "soft", "link"):
        for ground in ("page", "raised", "band"):
            assert contrast(text, ground) >= 4.5, (text, ground)
    assert contrast("ink", "note") >= 4.5
    for mark in ("mark", "other", "note-line"):
        assert contrast(mark, "page") >= 3, mark


def test_a_site_is_replaced_file_by_file_and_foreign_files_stay(files, tmp_path):
    (tmp_path / "CNAME").write_text("board.example.org")
    (tmp_path / "index.html").write_text("old")
    write_site(files, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(files) | {"CNAME"}
    assert (tmp_path / "CNAME").read_text() == "board.example.org"
    assert all((tmp_path / name).read_bytes() == data for name, data in files.items())
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    write_site(files, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps
    with pytest.raises(UsageError, match="is a file"):
        write_site(files, tmp_path / "CNAME")


def test_a_site_of_no_scores_is_still_a_page():
    page = render_site({"schema_version": 1, "draws": 1, "boards": [], "submissions": []})["index.html"]
    assert b"No scores yet." in page


def test_plots_put_points_where_they_belong_and_escape_their_texts():
    line = PlotLine("a", "defended", [Point(0, 0.0), Point(10, 1.0, 0.5, 1.0)])
    svg = f1_panel([line], ident="p", title="<b>", description="a & b", x_label="<i>", x_ticks=[0, 10])
    circles = [tuple(map(float, pair)) for pair in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert circles == [(40.0, HEIGHT - 42.0), (WIDTH - 12.0, 12.0)]
    assert "<b>" not in svg and "<i>" not in svg and "a &amp; b" in svg and "style=" not in svg
    assert 'd="M60.0 1V13"' in interval_bar(50.0, 40.0, 60.0) and "span" not in interval_bar(50.0, None, None)


def test_the_command_makes_a_site_and_refuses_in_one_line(afbench, folders, tmp_path):
    (tmp_path / "scores").symlink_to(folders)
    ran = afbench("leaderboard", "scores", "--out", "site")  # the example of its help
    assert ran.code == 0, ran.err
    assert ran.out == "submissions 5, ranked 4, boards 2: site/index.html\n"
    assert (tmp_path / "site" / "index.html").is_file()
    for arguments, code in (
        (("nowhere", "--out", "s"), 2),
        (("scores", "--out", "scores/jpeg/score.json"), 2),
    ):
        ran = afbench("leaderboard", *arguments)
        errors = [line for line in ran.err.splitlines() if line.startswith("afbench: error:")]
        assert ran.code == code and len(errors) == 1 and not (tmp_path / "s").exists()


def test_the_example_of_compare_runs(afbench, folders, tmp_path):
    (tmp_path / "scores").symlink_to(folders)
    ran = afbench("compare", "scores/none", "scores/jpeg")  # the example of its help
    assert ran.code == 0 and "differ" in ran.out


needs_browser = pytest.mark.skipif(
    PROGRAM is None, reason="Chromium is not installed: apt-get install chromium (or google-chrome)"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_page_scrolls_sideways_or_complains(page, site, boards, width, scheme):
    for name in ("index.html", page_of(boards, "evil")):
        page.open(site / name, width=width, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
        assert page.logged() == []
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 27)"
        assert dark is (scheme == "dark")


@needs_browser
def test_a_name_of_markup_is_shown_as_it_is(page, site, boards):
    page.open(site / page_of(boards, "evil"))
    assert page.evaluate("document.querySelector('h1').innerText") == EVIL
    assert page.evaluate("document.title").startswith(EVIL)


COLUMN = (
    "Array.from(document.querySelectorAll('table.board')[0].tBodies[0].rows, row => row.cells[{}].innerText)"
)


def press(page, column):
    page.evaluate(
        f"document.querySelectorAll('table.board')[0].tHead.rows[0].cells[{column}].querySelector('button').click()"
    )
    head = f"document.querySelectorAll('table.board')[0].tHead.rows[0].cells[{column}]"
    return page.evaluate(f"{head}.getAttribute('aria-sort')")


@needs_browser
def test_columns_sort_both_ways_and_say_so(page, site):
    page.open(site / "index.html")
    if page.evaluate("document.querySelectorAll('table.board')[0].tBodies[0].rows.length") == 1:
        pytest.fail("the first board should hold several submissions")
    assert page.evaluate(COLUMN.format(0)) == ["1", "2", "3"]
    assert press(page, 0) == "descending" and page.evaluate(COLUMN.format(0)) == ["3", "2", "1"]
    assert press(page, 0) == "ascending" and page.evaluate(COLUMN.format(0)) == ["1", "2", "3"]
    assert press(page, 6) == "descending"
    figures = [float(text.split()[0]) for text in page.evaluate(COLUMN.format(6))]
    assert figures == sorted(figures, reverse=True)
    assert press(page, 1) == "ascending"
    names = [text.lower() for text in page.evaluate(COLUMN.format(1))]
    assert names == sorted(names)
    said = "document.querySelector('[role=status]').textContent"
    assert page.evaluate(said) == "Sorted by Submission, ascending."
    assert (
        page.evaluate("document.querySelectorAll('table.board')[0].querySelectorAll('[aria-sort]').length")
        == 1
    )


@needs_browser
def test_rows_are_filtered_by_words_and_by_training(page, site):
    page.open(site / "index.html")
    shown = "Array.from(document.querySelectorAll('table.board')[0].tBodies[0].rows).filter(row => !row.hidden).length"
    type_in = (
        "const f = document.querySelector('form.filter'); f.elements.{} ; f.dispatchEvent(new Event('input'))"
    )
    assert page.evaluate(shown) == 3
    page.evaluate("{" + type_in.format("words.value = 'QUALITY 75'") + "}")
    assert page.evaluate(shown) == 1
    assert page.evaluate("document.querySelector('[role=status]').textContent") == "1 of 3 submissions shown."
    page.evaluate("{" + type_in.format("words.value = ''") + "}")
    page.evaluate("{" + type_in.format("unseen.checked = true") + "}")
    assert page.evaluate(shown) == 2


@needs_browser
def test_without_scripts_everything_but_the_filter_is_there(page, site):
    page.open(site / "index.html", scripts=False)
    tree = page.call("DOMSnapshot.captureSnapshot", computedStyles=[])
    text = tree["strings"]
    for words in ("JPEG" if "JPEG" in text else "jpeg", "Worst case RP", "Clean F1"):
        assert words in text
    assert "Filter " not in [text[at] for at in tree["documents"][0]["layout"]["text"] if at >= 0]
