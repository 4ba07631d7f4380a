"""What strangers may call things, and what of their text reaches a terminal."""

import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import afbench.cli
from afbench.core import AfbenchError
from afbench.untrusted import LONGEST_NAME, is_name, require_name, visible

sys.path.insert(0, str(Path(__file__).parent))

from bad_names import BAD_NAMES, OBEYED


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
