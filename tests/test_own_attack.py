"""A user's own attack: the documented example, its way from plan to leaderboard, what is refused, and that only its user imports it."""

import doctest
import json
import re
import sys
from pathlib import Path

import pytest

import afbench as package
from afbench import as_attack
from afbench.core import UsageError
from afbench.engine.attack_check import check_attack
from afbench.plans import RunPlan, expand_attack, naive_gradients, own_attack, plan_as_json, plan_from_json
from afbench.plans.own_attack import find_attack
from afbench.plans.runplan import Block, SourceSpec
from afbench.storage.manifests import open_benchmark, shard_paths
from afbench.storage.shards import read_rows
from afbench.storage.verify import verify
from afbench.workflows.rerun.rescore import rescore

PAGE = Path(__file__).resolve().parent.parent / "docs" / "attacks.md"


def documented():
    section = PAGE.read_text().split("\n## Your own\n")[1]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return code


def test_the_documented_example_has_fifteen_lines_at_most_and_runs():
    assert len([line for line in documented().splitlines() if line.strip()]) <= 15
    results = doctest.testmod(own_attack, extraglobs={"afbench": package}, raise_on_error=False)
    assert (results.failed, results.attempted) == (0, 5)


@pytest.fixture
def attacked(afbench, module, photographs):
    """A benchmark attacked by the documented example at two phi, and a call that attacks in other ways."""
    name = module(documented(), "my_attack")

    def generate(*options):
        options = options or ("--attack", f"{name}:build:steps=2", "--phi", "1/255", "--phi", "2/255")
        return afbench(
            "generate",
            "--localizer",
            "reference",
            *options,
            "--source",
            f"folder:{photographs}",
            "--out",
            "OUT",
        )

    ran = generate()
    assert ran.code == 0, ran.err
    return generate


def test_an_own_attack_goes_from_plan_to_evaluation_and_is_told_from_another_version(
    attacked, afbench, module
):
    configs = open_benchmark(Path("OUT")).attacked
    assert [re.sub(r"[0-9a-f]{6}$", "", name) for name in configs] == [
        "reference-halving-1-",
        "reference-halving-2-",
    ]
    (config, manifest), _ = configs.items()
    assert manifest.provenance["params"] == {
        "build": "my_attack:build",
        "source_sha256": find_attack("my_attack:build")[0].defaults["source_sha256"],
        "steps": 2,
    }
    assert manifest.provenance["steps"] == 2
    assert verify(Path("OUT"), level="deep") == [] and rescore(Path("OUT")).left_out == {}
    assert config in afbench("stats", "OUT").out
    assert "the maker's own my_attack:build" in Path("OUT/README.md").read_text()
    assert "(0 shards written" in attacked().out
    ran = afbench("evaluate", "--data", "OUT", "--localizer", "reference")
    assert ran.code == 0 and "halving" in ran.out
    row = ("--row", f"{config}/folder/photo1")
    sys.modules.pop("my_attack")
    ran = afbench("reproduce", "OUT", *row)
    assert ran.code == 2 and "give --attack my_package.my_module:build" in ran.err
    assert "my_attack" not in sys.modules
    assert afbench("reproduce", "OUT", *row, "--attack", "my_attack:build").code == 0
    shard = next(Path("OUT/data").glob("reference-halving-2*/*.parquet"))
    stored = shard.read_bytes()
    shard.write_bytes(stored[:100])
    assert afbench("verify", "OUT", "--repair").code == 1 and shard.read_bytes() != stored
    assert afbench("verify", "OUT", "--repair", "--attack", "my_attack:build").code == 0
    assert shard.read_bytes() == stored

    module(documented().replace("2**step", "3**step"), "my_attack")
    ran = attacked()
    assert ran.code == 2 and "params.source_sha256: " in ran.err and "made differently" in ran.err
    ran = afbench("reproduce", "OUT", *row, "--attack", "my_attack:build")
    assert ran.code == 2 and "give the file it was made with" in ran.err


def test_an_attack_that_a_benchmark_names_is_never_imported(attacked, afbench, module, tmp_path):
    """Whoever made the benchmark may have put a module of that name where its readers work."""
    trap = module(f"open({str(tmp_path / 'sprung')!r}, 'w')\ndef build(*_): pass\n")
    for path in Path("OUT/manifests").glob("reference*.json"):
        path.write_text(path.read_text().replace("my_attack:build", f"{trap}:build"))
    config = next(Path("OUT/manifests").glob("reference*.json")).stem
    for command in (
        ("verify", "OUT", "--deep"),
        ("verify", "OUT", "--repair"),
        ("reproduce", "OUT", "--row", f"{config}/folder/photo1"),
        ("preview", "OUT", "--config", config),
        ("stats", "OUT"),
        ("inspect", "OUT", "--config", config),
        ("evaluate", "--data", "OUT", "--localizer", "reference", "--gates"),
        ("predict", "--data", "OUT", "--localizer", "reference", "--out", "SUB"),
        (
            "generate",
            "--localizer",
            "reference",
            "--attack",
            "fgsm",
            "--phi",
            "1/255",
            "--limit",
            "1",
            "--out",
            "OUT",
        ),
    ):
        ran = afbench(*command)
        assert "Traceback" not in ran.err
        assert not (tmp_path / "sprung").exists() and trap not in sys.modules, command


def test_an_attack_of_a_bad_name_or_of_no_function_is_a_damaged_manifest(attacked, afbench):
    path = next(Path("OUT/manifests").glob("reference-halving-1*.json"))
    sound = path.read_text()
    for name, build in (
        ("\x1b[31mred", "a:b"),
        ("a b", "a:b"),
        ("../x", "a:b"),
        ("mine", "\x1b[31mred"),
        ("mine", ""),
    ):
        manifest = json.loads(sound)
        manifest["how"]["attack"], manifest["how"]["params"]["build"] = name, build
        path.write_text(json.dumps(manifest))
        ran = afbench("stats", "OUT")
        assert (
            ran.code == 1
            and "damaged" in ran.err
            and len(ran.err.splitlines()) == 1
            and "\x1b" not in ran.err
        )


def test_a_plan_counts_what_an_own_attack_declares_and_a_job_carries_it_to_a_worker(afbench, module):
    name = module(documented())
    ran = afbench(
        "plan",
        "--localizer",
        "reference",
        "--attack",
        f"{name}:build:steps=6",
        "--phi",
        "1/255",
        "--source",
        "demo",
    )
    assert ran.code == 0 and re.search(r"gradients per image +6 ", ran.out), ran.err
    settings = expand_attack(f"{name}:build", phi=["1/255", "3/255"], params={"steps": 5, "where": "forged"})
    assert [naive_gradients(setting) for setting in settings] == [5, 5]
    plan = RunPlan("own", (Block(("reference",), (SourceSpec("demo"),), tuple(settings)),))
    back = plan_from_json(json.loads(json.dumps(plan_as_json(plan))))
    assert back == plan and back.blocks[0].settings[0].user_attack.function.__name__ == "halving"
    module(documented() + "\n", name)
    with pytest.raises(UsageError, match="changed since the run began"):
        plan_from_json(json.loads(json.dumps(plan_as_json(plan))))


def test_a_plan_of_other_attacks_imports_nothing(afbench, module, tmp_path):
    name = module(f"open({str(tmp_path / 'ran')!r}, 'w')")
    Path("plan.yaml").write_text(
        "name: p\nblocks:\n- {localizers: [reference], sources: [demo], attacks: [{attack: fgsm}]}\n"
    )
    assert afbench("plan", "--plan", "plan.yaml").code == 0
    assert afbench("list", "attacks").code == 0 and not (tmp_path / "ran").exists()
    Path("plan.yaml").write_text(Path("plan.yaml").read_text().replace("fgsm", f"'{name}:build'"))
    ran = afbench("plan", "--plan", "plan.yaml")
    assert ran.code == 2 and "cannot be imported" in ran.err and (tmp_path / "ran").exists()


def test_check_attack_of_a_sound_one_ends_with_0_and_of_a_broken_one_with_1(afbench, module):
    ran = afbench("check-attack", f"{module(documented())}:build:steps=3")
    assert ran.code == 0 and ran.err == "" and ran.out.count("ok ") == len(ran.out.splitlines()) == 18
    broken = documented().replace("gradient.sign()", "(gradient - gradient.mean()).sign()")
    name = module(broken)
    ran = afbench("check-attack", f"{name}:build", "--wide")
    assert ran.code == 1 and "BROKEN  gives an image the same pixels in any batch: an" in ran.out
    ran = afbench("check-attack", f"{name}:build", "--json")
    rows = json.loads(ran.out)
    assert ran.code == 1 and {row["passed"] for row in rows} == {True, False}
    assert afbench("check-attack", "fgsm").code == 2


def noisy(loss, image, *, phi, uniform):
    return (image + phi * uniform(0).to(image).sign()).clamp(0, 1)


def outside(loss, image, *, phi):
    return (image + 2 * phi).clamp(0, 1)


def half(loss, image, *, phi):
    return image[..., ::2]


def dear(loss, image, *, phi, steps=2):
    from attacks import bim

    return bim(loss, image, phi=phi, alpha=phi / 4, steps=2 * steps)


BROKEN = {
    "noise": (noisy, 0, "raises the loss of every image"),
    "outside": (outside, 0, "stays in the phi ball, and fills it in whole levels"),
    "half": (half, 0, "stays in [0, 1], and keeps shape and type"),
    "dear": (dear, lambda steps: steps, "costs the gradients and passes that it declares"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_each_fault_breaks_its_property(kind):
    function, gradients, name = BROKEN[kind]
    tried = {
        row.name: row.problem for row in check_attack(as_attack(function, name="mine", gradients=gradients))
    }
    assert tried[name]
    if kind == "dear":
        assert [row for row, problem in tried.items() if problem] == [name]
        assert "20 gradients" in tried[name] or "2 gradients" in tried[name]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("outside", "left the phi ball by 0.00"),
        ("torn", "left the phi ball by 0.00"),
        ("half", "must give images ("),
    ],
)
def test_what_leaves_the_ball_or_is_no_image_ends_the_run_in_one_line(
    afbench, module, photographs, function, expected
):
    name = module(f"""
        import afbench
        def outside(loss, image, *, phi):
            return (image + 2 * phi).clamp(0, 1)
        def torn(loss, image, *, phi):  # what is no number in one image says nothing of the next
            attacked = outside(loss, image, phi=phi)
            attacked[0] = float("nan")
            return attacked
        def half(loss, image, *, phi):
            return image[..., ::2]
        def build():
            return afbench.as_attack({function}, name="mine", gradients=0)
    """)
    ran = afbench(
        "generate", "--localizer", "reference", "--attack", f"{name}:build", "--phi", "1/255", "--phi", "2/255",
        "--source", f"folder:{photographs}", "--out", "OUT",
    )  # fmt: skip
    assert ran.code == 2 and expected in ran.err.splitlines()[-1] and "Traceback" not in ran.err


def test_a_random_one_draws_by_sample_whatever_the_batch(afbench, module, photographs):
    name = module("""
        import afbench
        def noisy(loss, image, *, phi, uniform):
            return (image + phi * uniform(0).to(image).sign()).clamp(0, 1)
        def build():
            return afbench.as_attack(noisy, name="noisy", gradients=0)
    """)
    pixels = []
    for batch in ("1", "4"):
        ran = afbench(
            "generate", "--localizer", "reference", "--attack", f"{name}:build", "--phi", "1/255",
            "--source", f"folder:{photographs}", "--batch-size", batch, "--out", f"OUT{batch}",
        )  # fmt: skip
        assert ran.code == 0, ran.err
        manifest = open_benchmark(Path(f"OUT{batch}")).attacked["reference-noisy-1"]
        pixels.append([row["image_sha256"] for row in read_rows(Path(f"OUT{batch}"), shard_paths(manifest))])
    assert pixels[0] == pixels[1] and len(set(pixels[0])) == 3


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import nowhere_at_all", "cannot be imported (ModuleNotFoundError"),
        ("def build(): raise KeyError('layer 9')", "failed (KeyError: 'layer 9', at "),
        ("def build(): return 3", "gave a int; return afbench.as_attack(function, name=...)"),
        (
            "import afbench\ndef f(loss, image): pass\ndef build(): return afbench.as_attack(f, name='x', gradients=1)",
            "must take phi by keyword",
        ),
        (
            "import afbench\ndef f(loss, image, *, phi, mu): pass\n"
            "def build(): return afbench.as_attack(f, name='x', gradients=1)",
            "parameter mu of attack 'x' needs a default",
        ),
        (
            "import afbench\ndef f(loss, image, *, phi): pass\n"
            "def build(): return afbench.as_attack(f, name='x', gradients=lambda steps: steps)",
            "gradients of attack 'x' depend on 'steps'",
        ),
    ],
)
def test_what_is_no_attack_is_one_line_and_nothing_is_written(afbench, module, code, expected):
    name = module(code)
    ran = afbench(
        "generate",
        "--localizer",
        "reference",
        "--attack",
        f"{name}:build",
        "--source",
        "demo",
        "--out",
        "OUT",
    )
    assert ran.code == 2 and expected in ran.err and len(ran.err.splitlines()) == 1
    assert not Path("OUT").exists()


@pytest.mark.parametrize("name", ["", "PGD", "pgd", "mim", "ta_x", "clean", "a-b", "x" * 31, "1st"])
def test_a_name_that_looks_like_another_attack_or_is_none_is_refused(name):
    with pytest.raises(UsageError, match="name"):
        as_attack(outside, name=name, gradients=0)


@pytest.mark.parametrize("param", ["build=x:y", "source_sha256=0", "mu=1", "steps=0", "steps=many"])
def test_a_parameter_that_it_does_not_have_or_take_is_refused(param):
    name, _, value = param.partition("=")
    with pytest.raises(UsageError):
        expand_attack(as_attack(dear, name="mine", gradients=4), params={name: value})


def test_the_loss_and_the_region_come_with_it(module):
    name = module(documented())
    (setting,) = expand_attack(f"{name}:build", phi=["1/255"], params={"loss": "soft-f1", "where": "forged"})
    assert setting.params["loss"] == "soft-f1" and setting.params["where"] == "forged"


def free(
    loss,
    image,
    *,
    phi,
    alpha=0.5,
    kappa=0.0,
    optimizer="adam",
    restarts=1,
    momentum=0.9,
    delta=0.5,
    decay=True,
):
    return image


def test_a_parameter_named_like_one_of_ours_means_what_its_user_says():
    attack = as_attack(free, name="free", gradients=1)
    given = {
        "alpha": "1/4",
        "optimizer": "sgd",
        "restarts": 0,
        "momentum": -1,
        "delta": 7.5,
        "decay": "false",
    }
    (plain,) = expand_attack(attack, phi=["1/255"])
    assert {name: plain.params[name] for name in ("alpha", "kappa", "restarts")} == {
        "alpha": 0.5,
        "kappa": 0.0,
        "restarts": 1,
    }
    (setting,) = expand_attack(attack, phi=["1/255"], params={**given, "kappa": "2"})
    chosen = {"alpha": 0.25, "kappa": 2.0, "optimizer": "sgd", "restarts": 0, "momentum": -1.0, "delta": 7.5}
    assert {**plain.params, **chosen, "decay": False} == setting.params
    for name, value in (("restarts", "1.5"), ("momentum", "fast"), ("decay", "2"), ("alpha", "inf")):
        with pytest.raises(UsageError, match=f"parameter {name} must be"):
            expand_attack(attack, params={name: value})


@pytest.mark.parametrize(
    ("function", "costs", "expected"),
    [
        (lambda loss: 0, {"gradients": 1}, "must take phi by keyword"),
        (outside, {"gradients": "many"}, "gradients must be a whole number or a function; found str 'many'"),
        (outside, {"gradients": -1}, "gradients of attack 'mine' must be a whole number"),
        (outside, {"gradients": lambda: 1.5}, "found 1.5"),
        (
            dear,
            {"gradients": 1, "queries": lambda steps: 1 // (steps - 2)},
            "cannot be counted (ZeroDivisionError",
        ),
    ],
)
def test_a_function_or_a_cost_that_no_plan_could_use_is_refused_at_once(function, costs, expected):
    with pytest.raises(UsageError, match=re.escape(expected)):
        as_attack(function, name="mine", **costs)


def test_a_cost_that_fails_on_chosen_parameters_is_one_line(afbench, module):
    name = module(documented().replace("lambda steps: steps", "lambda steps: 8 // (steps - 2)"))
    ran = afbench("plan", "--localizer", "reference", "--attack", f"{name}:build:steps=2", "--source", "demo")
    assert ran.code == 2 and "cannot be counted (ZeroDivisionError" in ran.err and "Traceback" not in ran.err


def test_what_a_closure_holds_is_recorded_of_an_attack():
    def made(scale):
        return lambda loss, image, *, phi: image + scale * phi

    hashes = {
        as_attack(function, name="mine", gradients=0).defaults["source_sha256"]
        for function in (made(0), made(1), made(1), outside)
    }
    assert len(hashes) == 3
