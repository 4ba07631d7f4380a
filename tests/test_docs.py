"""The documents: every link leads somewhere, and the glossary has one sentence for each term."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(path for name in ("docs", "afbench", "manifests") for path in (ROOT / name).rglob("*.md"))]
)  # fmt: skip
GLOSSARY = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
ENTRY = re.compile(r"^- ((?:\*\*.+?\*\*(?: \([^)]*\))?(?:, )?)+): .*$", re.MULTILINE)


def _prose(page: Path) -> str:
    """Return a page without its code, in which brackets are no links and ``#`` is no heading."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda code: code[0].replace("](", "").replace("#", ""), text)


def _anchors(page: Path) -> set[str]:
    """Return the names by which headings are linked: lower case, spaces as dashes, no other marks."""
    headings = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _broken_links(page: Path) -> list[str]:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page):
    assert _broken_links(page) == []


def test_a_link_without_its_file_or_heading_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A & `b`\n[a](#a--b) [b](page.md#a--b) [c](none.md) [d](#none) [e](https://x.org) `[f](g)`"
    )
    assert _broken_links(page) == ["none.md", "#none"]


def test_the_glossary_has_one_sentence_for_each_term():
    lines = [line for line in GLOSSARY.splitlines() if line.startswith("- ")]
    entries = list(ENTRY.finditer(GLOSSARY))
    assert [entry[0] for entry in entries] == lines
    terms = [term.lower() for entry in entries for term in re.findall(r"\*\*(.+?)\*\*", entry[1])]
    assert len(set(terms)) == len(terms) > 60
    for entry in entries:
        sentence = re.sub(r"`[^`]*`|\[([^]]*)\]\([^)]*\)", r"\1", entry[0])
        assert sentence.endswith(".") and not re.search(r"[.?!] [A-Z]", sentence), entry[0]


def test_the_architecture_names_every_room_and_no_file_that_is_not_there():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for folder in ("afbench", "afbench/workflows"):
        rooms = [path.parent.name for path in (ROOT / folder).glob("*/__init__.py")]
        assert rooms and [room for room in rooms if f"[{room}/](../{folder}/{room})" not in text] == []
    paths = re.findall(r"`((?:afbench|attacks|manifests|scripts|tests)/[\w/.]+\.(?:py|json))`", text)
    assert len(paths) > 40
    assert [path for path in paths if "NAME" not in path and not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{name}.md" for name in (
    "architecture", "leaderboard", "plan", "reliability", "scale-out", "storage", "submissions"
))])  # fmt: skip
def test_pages_for_newcomers_link_the_glossary(name):
    assert "glossary.md)" in (ROOT / name).read_text(encoding="utf-8")


def test_every_reason_to_exclude_a_sample_is_explained():
    code = "".join(
        path.read_text(encoding="utf-8")
        for path in [ROOT / "afbench/images.py", *(ROOT / "afbench/sources").rglob("*.py")]
    )
    reasons = set(re.findall(r"""(?:BadSample\(\s*|problem=|reason=)"(\w+)\"""", code)) | {
        "empty_mask",
        "full_mask",
    }
    explained = set(re.findall(r"`(\w+)`", (ROOT / "docs/sources.md").read_text(encoding="utf-8")))
    assert len(reasons) > 15 and sorted(reasons - explained) == []
