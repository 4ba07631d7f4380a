"""Plans: what users write, what it is called, what it costs."""

import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afbench.core import UsageError
from afbench.plans import (
    ATTACKS,
    config_name,
    estimate,
    expand_attack,
    make_setting,
    max_levels,
    naive_gradients,
    narrow_plan,
    parse_phi,
    parse_source,
    read_plan,
    settings_by_group,
    shared_gradients,
)
from afbench.plans.cost import localizer_cost
from afbench.resources import resource_json

GOOD = "name: mine\nblocks:\n- {localizers: [reference], sources: [demo], attacks: [{attack: fgsm}]}\n"


@pytest.fixture
def refusal(tmp_path):
    """The one line that a YAML text is refused with."""

    def read(text, **options):
        path = tmp_path / "plan.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError) as problem:
            read_plan(str(path), **options)
        assert "\n" not in str(problem.value) and len(str(problem.value)) < 500
        return str(problem.value)

    return read


@pytest.mark.parametrize(
    ("value", "told"),
    [
        *((value, "above 0 and at most 1") for value in ("0", "-1/255", "1.01", "3")),
        *(
            (value, "a number such as 1/255")
            for value in ("1/0", "1/2/3", "abc", "", "nan", "inf", "1e-999999999")
        ),
        ("1/300", "at least 1/255, one level"),
        *((value, "visible to anyone; did you mean (one of )?1/255") for value in ("0.5", "1")),
    ],
)
def test_a_phi_nobody_can_mean_is_refused(value, told):
    with pytest.raises(UsageError, match=told):
        parse_phi(value)


def test_phi_is_exact_in_every_spelling():
    assert parse_phi("1/255") == parse_phi(" 1 / 255 ") == Fraction(1, 255)
    assert parse_phi("0.01") == parse_phi(0.01) == Fraction(1, 100)
    assert parse_phi("1e-2") == Fraction(1, 100)
    assert parse_phi("0.5", large_phi=True) == Fraction(1, 2)
    assert parse_phi("0.1") == Fraction(1, 10)
    assert max_levels(parse_phi(1 / 255)) == 1  # the float lies below the fraction


@settings(max_examples=60)
@given(st.integers(1, 255), st.integers(0, 998))
def test_the_bound_in_levels_never_exceeds_phi(whole, thousandth):
    assert max_levels(Fraction(whole * 1000 + thousandth, 255_000)) == whole
    assert max_levels(None) is None


@pytest.mark.parametrize("value", [0, -1, "0", "2.5", "many", "", 100_001])
def test_steps_must_be_whole_and_positive(value):
    with pytest.raises(UsageError, match="steps must be a whole number from 1 to 100000"):
        make_setting("cw", value)


def test_phi_goes_with_bounded_attacks_and_steps_with_cw():
    with pytest.raises(UsageError, match="attack 'cw' takes steps, not phi"):
        expand_attack("cw", phi=["1/255"])
    with pytest.raises(UsageError, match="attack 'pgd' takes phi, not steps"):
        expand_attack("pgd", steps=[10])
    assert [one.label for one in expand_attack("cw")] == ["50", "100", "150", "200", "250"]
    assert [one.label for one in expand_attack("noise")] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("attack", "params", "told"),
    [
        ("fgsm", {"steps": 3}, "attack 'fgsm' has no parameter 'steps'; its parameters: loss, target"),
        ("strong", {"steps": 30}, "attack 'strong' has no parameter 'steps'; its parameters: none"),
        ("strong", {"loss": "js"}, "attack 'strong' has no parameter 'loss'; its parameters: none"),
        ("pgn", {"neighbors": 3}, "has no parameter 'neighbors'; its parameters: .*neighbours"),
        ("bim", {"steps": "x"}, "parameter steps must be a number; found 'x'"),
        ("bim", {"steps": True}, "parameter steps must be a number; found 'True'"),
        ("bim", {"steps": "inf"}, "parameter steps must be a number; found 'inf'"),
        ("pgn", {"neighbours": "nan"}, "parameter neighbours must be a number; found 'nan'"),
        ("bim", {"steps": 0}, "parameter steps must be a whole number from 1"),
        ("bim", {"steps": 2.5}, "parameter steps must be a whole number from 1"),
        ("bim", {"alpha_over_phi": 0}, "parameter alpha_over_phi must be a positive number"),
        ("cw", {"lr": -1}, "parameter lr must be a positive number"),
        ("cw", {"optimizer": "sgd"}, "parameter optimizer must be one of adam, gd; found 'sgd'"),
        ("cw", {"objective": 3}, "parameter objective must be one of probability, logit"),
        ("cw", {"hinge": "perhaps"}, "parameter hinge must be true or false"),
        ("pgn", {"delta": 1.5}, r"parameter delta must be in \[0, 1\]"),
        ("cw", {"kappa": -1}, "parameter kappa must be a positive number"),
        (
            "cw",
            {"kappa": 0.1, "hinge": "false"},
            "kappa is where the hinge ends; leave it out with hinge=false",
        ),
        ("cw", {"kappa": 1}, "kappa must be below 1 with objective=probability"),
        ("cw", {"c_search": 0}, "parameter c_search must be a whole number from 1 to 20; found '0'"),
        ("cw", {"c_search": 2.5}, "parameter c_search must be a whole number from 1 to 20"),
        ("cw", {"c_search": True}, "parameter c_search must be a whole number from 1 to 20"),
        ("bim", {"kappa": 1}, "attack 'bim' has no parameter 'kappa'"),
    ],
)
def test_unknown_and_ill_typed_parameters_are_refused_by_name(attack, params, told):
    value = 50 if attack == "cw" else "1/255"
    with pytest.raises(UsageError, match=told):
        make_setting(attack, value, params)


def test_a_margin_of_zero_is_the_plain_attack_and_a_search_is_not():
    assert make_setting("cw", 50, {"kappa": 0}) == make_setting("cw", 50)
    assert "kappa" not in make_setting("cw", 50).params and "c_search" not in make_setting("cw", 50).params
    assert make_setting("cw", 50, {"c_search": "3"}).params["c_search"] == 3
    assert make_setting("cw", 50, {"kappa": 0.2}).label != "50"


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(
        UsageError,
        match=r"attack 'fsgm' is unknown; did you mean fgsm.* known attacks: apgd, bim, cospgd, cw",
    ):
        make_setting("fsgm", "1/255")
    with pytest.raises(
        UsageError,
        match=r"source 'casia' is unknown; did you mean casia_v1.* known sources: synthetic, demo, folder",
    ):
        parse_source("casia")
    with pytest.raises(UsageError, match="source 'folder' needs its root"):
        parse_source("folder")
    with pytest.raises(UsageError, match="source 'demo' takes no root"):
        parse_source("demo:/tmp")
    assert parse_source("folder:/a:b").root == "/a:b"


@pytest.mark.parametrize(
    ("localizer", "attack", "value", "name"),
    [
        ("mvss", "fgsm", "1/255", "mvss-fgsm-1"),
        ("reference", "pgd", "3/510", "reference-pgd-1p5"),
        ("reference", "pgd", "1.5/255", "reference-pgd-1p5"),
        ("reference", "noise", "0.01", "reference-noise-2p55"),
        ("mvss", "cw", "250", "mvss-cw-250"),
    ],
)
def test_configs_are_named_by_localizer_attack_and_setting(localizer, attack, value, name):
    assert config_name(localizer, make_setting(attack, value)) == name


def test_other_parameters_give_a_suffix_that_ignores_phi_and_spelling():
    first, second = (
        make_setting("pgn", phi, {"neighbours": 4}).label.split("-") for phi in ("1/255", "2/255")
    )
    assert (first[0], second[0]) == ("1", "2")
    assert first[1] == second[1] and len(first[1]) == 6 and int(first[1], 16) >= 0
    assert make_setting("pgn", "1/255", {"neighbours": "4.0"}).label == "-".join(first)
    assert make_setting("pgn", "1/255", {"neighbours": 5}).label != "-".join(first)
    assert make_setting("pgn", "1/255", {"neighbours": 20}).label == "1"
    assert make_setting("mifgsm", "1/255", {"alpha_over_phi": 0.1}).label == "1"  # 1 / steps, the default


def test_a_step_size_that_was_left_out_follows_the_number_of_steps():
    assert make_setting("mifgsm", "1/255", {"steps": 4}).params["alpha_over_phi"] == 0.25
    assert ATTACKS["mifgsm"].defaults["alpha_over_phi"] is None  # the table itself is not written to


def test_what_is_recorded_of_the_papers_attacks_never_changes():
    """Their parameters are hashed: another one, even at a default, would refuse every benchmark made before."""
    found = {name: make_setting(name, "50" if name == "cw" else "1/255") for name in ATTACKS}
    assert {
        name: dict(found[name].params) for name in ("fgsm", "bim", "pgd", "mifgsm", "pgn", "cw", "noise")
    } == {
        "fgsm": {},
        "bim": {"steps": 10, "alpha_over_phi": 0.25},
        "pgd": {"steps": 10, "alpha_over_phi": 0.25},
        "mifgsm": {"steps": 10, "alpha_over_phi": 0.1, "mu": 1.0},
        "pgn": {"steps": 10, "alpha_over_phi": 0.1, "mu": 1.0, "neighbours": 20, "zeta": 3.0, "delta": 0.5},
        "cw": {"lr": 1e-3, "c": 1.0, "optimizer": "adam", "hinge": True, "objective": "probability"},
        "noise": {},
    }


@pytest.mark.parametrize("attack", ["fgsm", "bim", "pgd", "mifgsm", "pgn"])
@pytest.mark.parametrize(
    ("name", "default", "other"),
    [("target", "mask", "empty"), ("target", "mask", "hide"), ("loss", "bce", "soft-f1")],
)
def test_target_and_loss_of_a_sign_attack_are_recorded_where_they_are_not_the_default(
    attack, name, default, other
):
    plain, default_setting, other_setting = (
        make_setting(attack, "1/255", given) for given in ({}, {name: default}, {name: other})
    )
    assert default_setting == plain and name not in plain.params
    assert other_setting.params == {**plain.params, name: other}
    assert re.fullmatch("1-[0-9a-f]{6}", other_setting.label)
    assert naive_gradients(other_setting) == naive_gradients(plain)
    assert shared_gradients([plain, other_setting]) == 2 * shared_gradients([plain])
    choices = {"target": "mask, empty, hide", "loss": "bce, soft-f1, js, masked-ce, balanced-ce, hinge"}
    with pytest.raises(UsageError, match=f"parameter {name} must be one of {choices[name]}; found 'none'"):
        make_setting(attack, "1/255", {name: "none"})


@pytest.mark.parametrize("loss", ["masked-ce", "hinge"])
@pytest.mark.parametrize("target", ["empty", "hide"])
def test_a_loss_that_stops_at_wrong_pixels_takes_no_target(loss, target):
    with pytest.raises(UsageError, match=f"loss={loss} moves away from the true mask; leave target out"):
        make_setting("bim", "1/255", {"loss": loss, "target": target})
    assert make_setting("bim", "1/255", {"loss": loss, "target": "mask"}).params["loss"] == loss


def test_the_ensemble_has_one_name_and_at_most_120_gradients_an_image_and_phi():
    settings = expand_attack("strong")
    assert [setting.label for setting in settings] == ["1", "2", "3"]
    assert [setting.steps for setting in settings] == [120] * 3
    assert shared_gradients(settings) == 3 * 120
    assert list(settings[0].params) == ["ensemble"]  # another recipe is another config


def test_the_grid_of_the_paper_costs_1535_shared_gradients_an_image():
    grid, training = estimate(read_plan("ansm-table3"))
    assert (grid.configs, grid.settings, len(grid.sources), len(grid.localizers)) == (80, 20, 4, 4)
    assert (grid.gradients_naive, grid.gradients_shared) == (2043, 1535)
    assert (training.configs, list(training.sources)) == (4, ["casia_v2"])
    assert training.gradients_naive == training.gradients_shared == 1
    assert grid.adversarial_images == sum(grid.sources.values()) * 80


def test_the_zoo_is_every_published_localizer_under_the_strongest_attack_and_noise():
    (block,) = read_plan("zoo").blocks
    assert sorted(block.localizers) == sorted(resource_json("localizers"))
    assert {setting.attack for setting in block.settings} == {"strong", "noise"}
    (row,) = estimate(read_plan("zoo"))
    assert (row.configs, row.settings, row.gradients_shared) == (8 * 4, 4, 2 * 120)
    assert all(localizer_cost(name) for name in block.localizers)


def test_gradients_are_one_for_fgsm_and_the_longest_cw_run():
    assert shared_gradients(expand_attack("fgsm")) == 1
    assert shared_gradients(expand_attack("cw")) == 250
    assert shared_gradients([*expand_attack("cw"), *expand_attack("cw", params={"c": 2})]) == 500
    assert shared_gradients(expand_attack("noise")) == 0
    for attack in ATTACKS:
        alone = expand_attack(attack)[:1]
        assert shared_gradients(alone) == naive_gradients(alone[0])


def test_settings_of_a_group_run_together_and_keep_their_order():
    every = [one for attack in ATTACKS for one in expand_attack(attack)]
    groups = settings_by_group(every)
    assert {one.attack for one in groups["sign"]} == {"fgsm", "bim", "mifgsm"}
    assert sum(map(len, groups.values())) == len(every)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD + "sed: 1\n", "'sed' was unexpected"),
        (GOOD.replace("sources", "source"), "blocks/0: .*'source' was unexpected"),
        (GOOD.replace("attack: fgsm", "attack: fgsm, phy: [1]"), "blocks/0/attacks/0: .*'phy'"),
        (GOOD.replace("[reference]", "[]"), "blocks/0/localizers"),
        (GOOD.replace("attack: fgsm", "attack: fgms"), "attack 'fgms' is unknown; did you mean fgsm"),
        (GOOD.replace("[demo]", "[casia]"), "source 'casia' is unknown"),
        (GOOD.replace("[demo]", "[demo, demo]"), "source 'demo' is asked for twice"),
        (GOOD.replace("[reference]", "[reference, reference]"), "localizer 'reference' is asked for twice"),
        (GOOD.replace("attack: fgsm", "attack: fgsm, phi: [1/255, 1/255]"), "setting 'fgsm-1' is asked for"),
        (GOOD.replace("attack: fgsm", "attack: fgsm, phi: [.inf]"), "phi must be a number"),
        (GOOD.replace("attack: fgsm", "attack: cw, steps: [0]"), "steps must be a whole number"),
        (GOOD.replace("attack: fgsm", "attack: cw, phi: [1/255]"), "takes steps, not phi"),
        (
            GOOD.replace("attack: fgsm", "attack: bim, params: {steps: [1]}"),
            "blocks/0/attacks/0/params/steps",
        ),
        (
            GOOD.replace("attack: fgsm", "attack: fgsm, phi: [1/255], phi: [2/255]"),
            "'phi' comes twice, again in line",
        ),
        (GOOD.replace("attack: fgsm", "attack: bim, params: {steps: 3, steps: 4}"), "'steps' comes twice"),
        (GOOD + "seed: -1\n", "seed"),
        (GOOD + "seed: 4294967296\n", "seed"),
        (GOOD + "limit: 0\n", "limit"),
        (GOOD.replace("mine", "../mine"), "name"),
        ("name: mine\n", "'blocks' is a required property"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_by_its_key(refusal, text, told):
    assert re.search(told, refusal(text))


_BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


GARBAGE = [
    *(_BOMB + "name: *a11\n", "name: &a [*a]\n", "[" * 1500, "a: \0", "- a", "", "x", "name: 2001-99-99"),
    *("name: !!bool x", "name: !!timestamp x", "name: !!int ''", "limit: " + "1" * 5000, "<<: 3", "1: 2"),
    *("name: !!python/object/apply:os.system ['touch /tmp/afbench-was-here']", "? [a]\n: 1", "a: {"),
]


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("text", GARBAGE, ids=range(len(GARBAGE)))
def test_yaml_bombs_and_garbage_are_refused_in_one_line(refusal, text):
    refusal(text)
    assert not Path("/tmp/afbench-was-here").exists()


def test_a_plan_file_that_is_no_text_or_is_missing_is_refused(tmp_path):
    (tmp_path / "p.yaml").write_bytes(bytes(range(256)))
    for name in (str(tmp_path / "p.yaml"), str(tmp_path), "nowhere.yaml", "", "../demo"):
        with pytest.raises(UsageError):
            read_plan(name)


def test_whole_floats_in_a_plan_become_integers(tmp_path):
    (tmp_path / "p.yaml").write_text(GOOD + "limit: 4.0\nseed: 2.0\n")
    plan = read_plan(str(tmp_path / "p.yaml"))
    assert isinstance(plan.limit, int) and isinstance(plan.seed, int)


def test_large_phi_in_a_plan_needs_the_option(refusal, tmp_path):
    assert "--large-phi" in refusal(GOOD.replace("attack: fgsm", "attack: fgsm, phi: [0.5]"))
    plan = read_plan(str(tmp_path / "plan.yaml"), large_phi=True)
    assert plan.blocks[0].settings[0].phi == Fraction(1, 2)


def test_one_source_from_two_roots_is_refused(refusal):
    block = "- {{localizers: [reference], sources: ['folder:{}'], attacks: [{{attack: {}}}]}}\n"
    text = "name: two\nblocks:\n" + block.format("a", "fgsm") + block.format("b", "noise")
    assert "'folder' is asked for with two roots, a and b" in refusal(text)


def test_the_same_config_in_two_blocks_is_refused(refusal):
    block = "- {localizers: [reference], sources: [demo], attacks: [{attack: fgsm}]}\n"
    assert "reference on demo with fgsm-1 is asked for in two blocks" in refusal(
        "name: two\nblocks:\n" + block * 2
    )


def test_the_plan_of_the_document_runs_whole_and_in_part(afbench, tmp_path):
    text = (Path(__file__).parent.parent / "docs" / "plan.md").read_text(encoding="utf-8")
    (written,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "pilot.yaml").write_text(written)
    plan = read_plan("pilot.yaml")
    assert plan.name == "pilot" and plan.limit == 2 and len(plan.blocks[0].settings) == 4
    limited = ("generate", "--plan", "pilot.yaml", "--checkpoint", "random", "--limit", "1", "--quiet")
    part = afbench(*limited, "--only", "fgsm,BIM")
    assert part.code == 0 and part.out.startswith("3 configs in afbench-out/pilot"), part.err
    assert afbench(*limited).out.startswith("4 configs in afbench-out/pilot")


def test_a_plan_is_narrowed_by_names_of_any_kind():
    plan = read_plan("ansm-table3")
    (block,) = narrow_plan(plan, ["mvss,CASIAv1"]).blocks
    assert block.localizers == ("mvss",) and [source.name for source in block.sources] == ["casia_v1"]
    assert len(block.settings) == 20
    assert len(narrow_plan(plan, ["C&W", "code"]).blocks[0].settings) == 5
    assert narrow_plan(plan, ["casia_v2"]).blocks == plan.blocks[1:]
    assert narrow_plan(plan, ["fgsm"]).name == plan.name


@pytest.mark.parametrize(
    ("only", "told"),
    [
        ("mvs", "plan 'ansm-table3' has no 'mvs'; did you mean mvss.*localizers mvss, ifosn"),
        ("coverage", "has no 'coverage'"),
        ("mvss,,pgd", "has no ''"),
        ("casia_v2,pgd", "no block of plan 'ansm-table3' holds all of casia_v2,pgd"),
    ],
)
def test_a_plan_is_not_narrowed_to_what_it_has_not(only, told):
    with pytest.raises(UsageError, match=told):
        narrow_plan(read_plan("ansm-table3"), [only])
