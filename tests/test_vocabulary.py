"""The code reads in the field's words: few names that say nothing, and each class and file name once."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BASH = b"#!/usr/bin/env bash"
LIMIT = 0.005
"""Share of vague names among a room's assigned names."""
# They say that there is a value, or where it came from, not what it holds: a reader has to look for its source.
_VAGUE = """
    one found told before held known mine said now own ours theirs other others whole left seen given chosen used
    wanted made kept taken shown drawn meant asked there where at what how most each every same both more about by
    beside below inside after opened fresh together place places facts forms taps launch crew hands outlook replay
    remake room told_by known_as refused covered listed ranked judged written failed changed excluded started ready
"""
VAGUE = frozenset(_VAGUE.split())
OPTIONS = frozenset({"where"})


def _room(path: Path) -> str:
    """Return the package or, for the files of afbench itself, ``afbench``."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if parts[0] == "afbench" and len(parts) > 2 else parts[0]


def _sources() -> Iterator[Path]:
    """Yield the Python files of the library and the scripts, also those without a suffix."""
    for folder in ("afbench", "attacks", "scripts"):
        for path in sorted((ROOT / folder).rglob("*")):
            is_script = folder == "scripts" and path.is_file() and not path.suffix
            if path.suffix == ".py" or (is_script and not path.read_bytes().startswith(BASH)):
                yield path


def _assigned(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every name a value is bound to, with its line: variables, parameters and caught exceptions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        # a parameter that an option of the command line names says what the option says
        elif isinstance(node, ast.arg) and node.arg not in OPTIONS:
            yield node.arg, node.lineno
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name, node.lineno


def _is_vague(name: str) -> bool:
    return name.strip("_").lower() in VAGUE


@pytest.fixture(scope="module")
def trees():
    """The syntax tree of each file; not parsed while tests are collected, which each test process does."""
    return {path: ast.parse(path.read_bytes()) for path in _sources()}


@pytest.mark.parametrize("room", sorted({_room(path) for path in _sources()}))
def test_names_say_what_they_hold(room, trees):
    names = [
        (name, f"{path.relative_to(ROOT)}:{line} {name}")
        for path, tree in trees.items()
        if _room(path) == room
        for name, line in _assigned(tree)
    ]
    vague_names = [place for name, place in names if _is_vague(name)]
    share = len(vague_names) / len(names)
    assert share <= LIMIT, f"{share:.2%} of the names in {room} say nothing: {', '.join(vague_names)}"


def _repeated(name_and_path: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    """Return the names that occur more than once, with the files they are in."""
    files = defaultdict(list)
    for name, path in name_and_path:
        files[name].append(str(path.relative_to(ROOT)))
    return {name: paths for name, paths in files.items() if len(paths) > 1}


def test_a_class_name_is_defined_once(trees):
    repeated = _repeated(
        (node.name, path)
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )
    assert not repeated


def test_a_file_name_is_given_once(trees):
    repeated = _repeated((path.name, path) for path in trees if path.name != "__init__.py")
    assert not repeated


def test_every_kind_of_name_is_counted():
    code = "def f(told, *, held=0, **own):\n try:\n  one = [said for said in own]\n except E as before: pass"
    names = [name for name, _ in _assigned(ast.parse(code))]
    assert sorted(names) == ["before", "held", "one", "own", "said", "told"]
    assert all(_is_vague(name) for name in names)
    assert not _is_vague("sample") and _is_vague("_MOST")
