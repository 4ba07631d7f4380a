"""Names as people write them: any case, aliases, typing errors."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.cli import cli
from afbench.core import UsageError
from afbench.defences.names import defence_names, split_defence
from afbench.localizers import known_localizers, load_localizer, require_known
from afbench.naming import ALIASES, _plain, closest_names, resolve_name
from afbench.plans import BUILT_IN, SOURCE_NAMES, list_plans, parse_attack, parse_source, read_plan
from afbench.resources import resource_json
from afbench.sources import find_sources

KNOWN = {
    "attack": list(BUILT_IN),
    "localizer": known_localizers(),
    "source": [*SOURCE_NAMES, *resource_json("sources")],
    "defence": defence_names(),
    "plan": list(list_plans()),
}
NAMES = st.sampled_from([(kind, name) for kind, names in KNOWN.items() for name in names])


def test_aliases_are_of_names_there_are_and_mean_one_thing():
    for kind, aliases in ALIASES.items():
        assert aliases.keys() <= set(KNOWN[kind])
        spellings = [_plain(name) for name in KNOWN[kind]]
        spellings += [alias for several in aliases.values() for alias in several]
        assert len(spellings) == len(set(spellings)) and all(_plain(one) == one for one in spellings)


@given(NAMES, st.randoms(use_true_random=False))
def test_a_name_is_taken_in_any_case_and_with_any_marks(asked, draw: random.Random):
    kind, name = asked
    text = "".join(
        draw.choice((letter.upper(), letter)) + draw.choice(("", "-", "_", " ")) for letter in name
    )
    assert resolve_name(kind, text, KNOWN[kind]) == name


@given(NAMES, st.randoms(use_true_random=False))
def test_a_name_with_one_typing_error_is_suggested(asked, draw: random.Random):
    kind, name = asked
    place = draw.randrange(len(name))
    for wrong in (name[:place] + name[place + 1 :], name[:place] + "q" + name[place:]):
        if len(name) > 3:
            assert name in closest_names(kind, wrong, KNOWN[kind])


@pytest.mark.parametrize(
    ("text", "name"),
    [("PGD", "pgd"), ("C&W", "cw"), ("CW", "cw"), ("MI-FGSM", "mifgsm"), ("I-FGSM", "bim"), ("PGN", "pgn")],
)
def test_attacks_by_the_names_of_papers(text, name):
    assert parse_attack(text) == (name, {})


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mvssnet", "mvss"),
        ("MVSS-Net", "mvss"),
        ("if-osn", "ifosn"),
        ("psccnet", "pscc"),
        ("CoDE", "code"),
        ("Reference", "reference"),
        ("my.module:Build", "my.module:Build"),
    ],
)
def test_localizers_by_the_names_of_papers(text, name):
    assert require_known(text) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CASIA1:/data", "casia_v1"),
        ("CASIAv1:/data", "casia_v1"),
        ("CASIA v1.0:/data", "casia_v1"),
        ("CASIAv1+", "casia_v1plus"),
        ("CASIA2", "casia_v2"),
        ("IMD2020", "imd20"),
        ("Columbia", "columbia"),
        ("DSO-1", "dso1"),
        ("Folder:/data", "folder"),
    ],
)
def test_sources_by_the_names_of_papers(text, name):
    assert parse_source(text).name == name
    assert parse_source(text).root == ("/data" if ":" in text else None)


def test_defences_and_plans_in_other_spellings():
    assert split_defence("JPEG:60") == ("jpeg", "60")
    assert split_defence("GaussianNoise") == ("gaussian-noise", None)
    assert read_plan("Table3") == read_plan("ansm-table3")
    with pytest.raises(UsageError, match=r"'medain:3' is unknown; did you mean median\?"):
        split_defence("medain:3")


def test_what_cannot_be_meant_has_no_suggestion():
    assert closest_names("attack", "xyzzy", BUILT_IN) == [] and resolve_name("attack", "", BUILT_IN) is None
    assert closest_names("attack", "fsgm", BUILT_IN)[0] == "fgsm"
    assert closest_names("command", "genrate", cli.list_commands(None))[0] == "generate"


def test_a_folder_of_the_data_may_have_the_name_its_release_has(tmp_path, monkeypatch):
    monkeypatch.setenv("AFBENCH_DATA", str(tmp_path))
    for name in ("CASIA2", "CASIA 1.0", "casia_v1", "thesis"):
        (tmp_path / name).mkdir()
    assert find_sources() == {"casia_v1": tmp_path / "casia_v1", "casia_v2": tmp_path / "CASIA2"}


def test_what_is_stored_has_the_canonical_name(afbench):
    ran = afbench(
        "generate",
        *("--localizer", "Reference", "--checkpoint", "random", "--attack", "FGSM", "--phi", "1/255"),
        *("--source", "Demo", "--limit", "1", "--quiet"),
    )
    assert ran.code == 0 and "configs in afbench-out/reference-demo" in ran.out
    assert 'load_dataset("afbench-out/reference-demo", "reference-fgsm-1")' in ran.out
    assert load_localizer("Reference", "random").name == "reference"
