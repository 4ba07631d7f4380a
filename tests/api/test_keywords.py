"""Functions and commands have the same options: names, defaults and choices."""

import inspect
import pydoc
import subprocess
import sys
from contextlib import suppress
from operator import attrgetter

import click
import pytest

import afbench as library
from afbench.argument_types import checked_value
from afbench.cli import cli
from afbench.cli.function_keywords import PRINTED, keyword_of

COMMANDS = {
    "check_attack": "check-attack",
    "compare": "compare",
    "evaluate": "evaluate",
    "export": "export",
    "generate": "generate",
    "index": "index",
    "inspect": "inspect",
    "leaderboard": "leaderboard",
    "list": "list",
    "plan": "plan",
    "predict": "predict",
    "preview": "preview",
    "push": "push",
    "report": "report",
    "reproduce": "reproduce",
    "restore": "restore",
    "score": "score",
    "stats": "stats",
    "train.ansm": "train ansm",
    "train.hardened": "train hardened",
    "train.nrp": "train nrp",
    "verify": "verify",
    "weights.add": "weights add",
    "weights.check": "weights check",
    "weights.list": "weights list",
    "weights.remove": "weights remove",
}
# a score that is not written is checked all the same
HOOKS = {"start", "advance", "on_finding"}  # of Python alone
WITHOUT = {*PRINTED, "help", "validate_only"}


def _command(words):
    command = cli
    for word in words.split():
        command = command.get_command(click.Context(command), word)
    return command


def _names(group, *words):
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from _names(command, *words, name)
        else:
            yield " ".join((*words, name))


def test_every_command_is_a_function():
    assert sorted(COMMANDS.values()) == sorted(_names(cli))


def _function(name):
    return attrgetter(name)(library)


def _defaults(command):
    """Return the options of a command by keyword, with what click gives where one is left out."""
    context = command.make_context("x", [], resilient_parsing=True)
    values = {keyword_of(option): context.params.get(option.name, False) for option in command.params}
    return {name: value for name, value in values.items() if name not in WITHOUT}


def _accepted_values(option, context):
    """Yield what click hands over for texts that an option accepts."""
    for text in getattr(option.type, "choices", ("5", "512", "yes", "reference", "fgsm", "demo")):
        size = max(option.nargs, 1)
        words = [text] * size if size > 1 or option.nargs < 0 else text
        with suppress(click.ClickException, library.AfbenchError):
            yield option.type_cast_value(context, [words] if option.multiple else words)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_function_takes_what_its_command_hands_over(name):
    command, function = _command(COMMANDS[name]), inspect.unwrap(_function(name))
    context = click.Context(command)
    for option in command.params:
        keyword = keyword_of(option)
        if keyword in WITHOUT:
            continue
        values = list(_accepted_values(option, context))
        assert values, option.name
        for value in values:
            checked_value(function, keyword, value)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_function_has_the_options_of_its_command(name):
    command, function = _command(COMMANDS[name]), _function(name)
    parameters = inspect.signature(function).parameters
    required = {keyword_of(option) for option in command.params if option.required}
    assert {
        parameter for parameter in parameters if parameters[parameter].default is inspect.Parameter.empty
    } == required
    assert {
        key: value.default for key, value in parameters.items() if key not in required and key not in HOOKS
    } == {key: value for key, value in _defaults(command).items() if key not in required}
    assert all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_function_names_every_keyword_and_the_result(name):
    function = _function(name)
    text = pydoc.render_doc(function, renderer=pydoc.plaintext)
    described = (text.partition("Args:")[2] or text).partition("Raises:")[0]
    assert all(f"{keyword}" in described for keyword in inspect.signature(function).parameters)
    assert "Returns:" in described


@pytest.mark.parametrize("name", COMMANDS)
def test_a_value_that_is_no_choice_is_refused_as_the_command_does(name, made, tmp_path):
    command = _command(COMMANDS[name])
    usual = {
        "localizer": "reference",
        "attack": "fgsm",
        "source": "demo",
        "out": tmp_path / "out",
        "folder": made.folder,
        "data": made.folder,
        "submission": tmp_path,
    }
    keywords = {
        key: value for key, value in usual.items() if key in {keyword_of(option) for option in command.params}
    }
    for option in command.params:
        if isinstance(option.type, click.Choice) and keyword_of(option) not in WITHOUT:
            with pytest.raises(library.UsageError) as refused:
                _function(name)(**keywords, **{keyword_of(option): "nonsense"})
            assert "nonsense" in str(refused.value) and "\n" not in str(refused.value)


def test_importing_afbench_and_its_functions_imports_neither_torch_nor_matplotlib():
    code = (
        "import sys, afbench, operator; [operator.attrgetter(name)(afbench) for name in sys.argv[1:]]; "
        "sys.exit(str(sorted({'torch', 'matplotlib', 'pandas'} & set(sys.modules))))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, *COMMANDS, "results", "attack"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.stderr == "[]\n"
