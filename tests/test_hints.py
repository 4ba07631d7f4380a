"""What messages advise can be done: commands and options that stand in them exist, and hints that cost little run."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import afbench as package
from afbench.cli import cli

ROOT = Path(package.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z_-]*?[a-z](?=-th\b|[^\w-]|$)")
OF_OTHERS = {"--no-deps", "--num_processes", "--untracked-files", "--porcelain"}
"""Options of pip, accelerate and git."""


def _texts(module: ast.Module) -> Iterator[str]:
    """Yield every string of a module as a user may see it, X where something is put in."""
    pending: list[ast.AST] = [module]
    while pending:
        part = pending.pop()
        if isinstance(part, ast.JoinedStr):
            yield "".join(value.value if isinstance(value, ast.Constant) else "X" for value in part.values)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value
        else:
            pending += ast.iter_child_nodes(part)


@pytest.fixture(scope="module")
def texts() -> list[tuple[Path, str]]:
    """Every string of the library with its file; not parsed while tests are collected, which each test process does."""
    return [
        (path.relative_to(ROOT), text)
        for path in sorted(ROOT.rglob("*.py"))
        if path != ROOT / "cli" / "hints.py"  # options of other tools
        for text in _texts(ast.parse(path.read_text(encoding="utf-8")))
    ]


def _commands(texts: list[tuple[Path, str]]) -> set[str]:
    commands = set()
    for _, text in texts:
        plain = " ".join(text.split()).replace("``", "`")
        for command in re.findall(r"`(afbench [^`]+)`|(?:next|[Ee]xample): (afbench [^`;]+)", plain):
            commands.add("".join(command).strip())
    return commands


def _options(command: click.Command) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}


def _parse(line: str) -> None:
    """Refuse a line whose command, or one of whose options, does not exist."""
    _, name, *words = shlex.split(line)
    context = click.Context(cli)
    if name.startswith("-"):
        assert name in _options(cli), line
        return
    command = cli.get_command(context, name)
    assert command is not None, f"no command {name} in: {line}"
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        # X is put in when the message is made
        assert words[0] in (*command.commands, "X"), line
        commands = [part for verb, part in command.commands.items() if words[0] in (verb, "X")]
    else:
        commands = [command]
    known = set().union(*map(_options, commands))
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--"):
            assert option in known, f"{name} has no {option} in: {line}"


def test_every_command_that_a_message_advises_exists_with_its_options(texts):
    commands = _commands(texts)
    assert len(commands) > 30 and "afbench weights add X PATH" in commands
    for line in sorted(commands):
        _parse(line)


def _everything(group: click.Group) -> Iterator[click.Command]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield command
        if isinstance(command, click.Group):
            yield from _everything(command)


def test_every_option_in_a_message_is_one_of_some_command(texts):
    known = _options(cli).union(*map(_options, _everything(cli))) | OF_OTHERS
    unknown = {(str(path), option) for path, text in texts for option in OPTION.findall(text)}
    assert {one for one in unknown if one[1] not in known} == set()


def _unadvised(command: str, message: str) -> set[str]:
    """Options in a message that its command does not have, but for those inside another command."""
    outside = re.sub(r"`afbench [^`]*`", "", message)
    return set(OPTION.findall(outside)) - _options(cli.get_command(click.Context(cli), command))


@pytest.mark.parametrize(
    "line",
    [
        "index casia_v1",
        "index folder",
        "index casia_v1:/data",
        "index demo",
        "stats EXPORT",
        "inspect EXPORT",
        "verify EXPORT --deep",
        "predict --data EXPORT --localizer reference --out s",
        "evaluate --data MADE --localizer mvss",
        "predict --data MADE --localizer reference --defence ansm: --out s",
        "generate --localizer mvss --attack fgsm --source demo",
        "generate --localizer reference --attack fgsm --source casia_v1",
        "generate --localizer reference --attack cw --phi 1/255",
        "restore MADE --out r",
        "train ansm --data MADE --localizer mvss --out t",
        "weights add mvss nowhere",
        "score nowhere --data MADE",
        "report MADE",
    ],
)
def test_a_refusal_advises_only_options_that_its_command_has(afbench, exported, made, line):
    words = line.replace("EXPORT", str(exported)).replace("MADE", str(made.folder)).split()
    ran = afbench(*words)
    assert ran.code in (1, 2) and ran.err.count("\n") <= 2
    if words[0] not in ("train", "weights"):
        assert _unadvised(words[0], ran.err) == set(), ran.err
    for command in re.findall(r"`(afbench [^`]+)`", ran.err):
        _parse(command)


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    """The benchmark as plain pictures."""
    from afbench.workflows.publishing.export import export

    out = tmp_path_factory.mktemp("exported") / "pictures"
    export(made.folder, out, "imagefolder")
    return out


@pytest.mark.parametrize("command", ["stats", "inspect", "preview"])
def test_an_export_is_named_for_what_it_is_and_its_hint_runs(afbench, exported, command):
    ran = afbench(command, exported)
    assert ran.code == 2 and "is an export: plain pictures" in ran.err and "damaged" not in ran.err
    (hint,) = re.findall(r"`afbench ([^`]*)`", ran.err)
    assert afbench(*shlex.split(hint)).code == 0


def test_hints_of_what_comes_next_run(afbench):
    first = afbench(
        *("generate", "--localizer", "reference", "--attack", "fgsm"),
        *("--phi", "1/255", "--source", "demo", "--limit", "1", "--out", "B's own", "--quiet"),
    )
    (hint,) = re.findall(r"next: afbench ([^;]*);", first.out)
    assert afbench(*shlex.split(hint)).code == 0
    predicted = afbench("predict", "--data", "B's own", "--localizer", "reference", "--out", "s")
    (hint,) = re.findall(r"next: afbench (.*)", predicted.out)
    assert afbench(*shlex.split(hint)).code == 0
