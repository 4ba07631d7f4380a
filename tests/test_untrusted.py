"""What strangers may call things, and what of their text reaches a terminal."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import afbench.cli
from afbench.core import AfbenchError
from afbench.untrusted import LONGEST_NAME, is_name, require_name, visible

BAD_NAMES = {
    "empty": "",
    "here": ".",
    "above": "..",
    "a path": "a/b",
    "absolute": "/etc/passwd",
    "out of the folder": "../../outside",
    "a drive": "C:\\x",
    "a space": "a b",
    "a new line": "a\nb",
    "a new line at its end": "clean\n",
    "a colour": "\x1b[31mred\x1b[0m",
    "the title of the window": "\x1b]0;mine\x07",
    "an escape of one byte": "\x9b2J",
    "a backspace": "a\x7fb",
    "the other direction": "a\u202eb",
    "no width": "a\u200bb",
    "NUL": "a\0b",
    "no character": "a\udcffb",
    "too long": "x" * 300,
}
"""Also used by the tests of every command that opens a benchmark."""
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_what_is_no_name_is_refused_in_a_line_that_can_be_printed(name):
    assert not is_name(name)
    with pytest.raises(AfbenchError, match="is no name") as refused:
        require_name("config", name)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 200


@pytest.mark.parametrize("value", [None, 3, ["a"], {"a": 1}, b"a", True])
def test_what_is_no_text_is_no_name(value):
    assert not is_name(value)


def test_names_as_sources_and_plans_make_them_are_names():
    for name in (
        "clean",
        "reference-cw-2",
        "photo.0",
        "-dash",
        "_x",
        "Sp_D_NND_A_txt0049",
        "x" * LONGEST_NAME,
    ):
        assert is_name(name)


@given(st.text())
def test_printed_text_holds_nothing_that_a_terminal_obeys(text):
    printed = visible(text)
    assert not OBEYED.search(printed)
    assert printed == visible(printed)
    printed.encode()


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"])))
def test_text_that_can_be_seen_is_printed_as_it_is(text):
    assert visible(text + "\n\t") == text + "\n\t"


@given(st.recursive(st.text() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_stays_the_same_json(value):
    for ascii_only in (True, False):
        assert json.loads(visible(json.dumps(value, ensure_ascii=ascii_only))) == value


def test_commands_print_through_echo_alone():
    folder = Path(afbench.cli.__file__).parent
    printing = re.compile(
        r"\bclick\.(echo|secho|echo_via_pager)\(|(?<![\w.])print\(|std(out|err)\.write\(|\.write\((?!visible)"
    )
    files = [path for path in folder.glob("*.py") if path.name != "echo.py"]
    assert len(files) > 20
    assert [path.name for path in files if printing.search(path.read_text(encoding="utf-8"))] == []
