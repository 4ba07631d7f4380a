"""A user's own defence: the documented example, what a fault is told, what is recorded of it, and that only its user imports it."""

import doctest
import functools
import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import afbench as package
from afbench import as_defence
from afbench.core import UsageError
from afbench.defences import custom_defence, load_defence
from afbench.defences.purifier import EOT_DRAWS
from afbench.storage.manifests import read_json
from afbench.workflows.evaluation.evaluation_setup import open_evaluation
from afbench.workflows.rerun.recorded_run import LocalizerSource
from afbench.workflows.rerun.rescore import rescore

PAGE = Path(__file__).resolve().parents[2] / "docs" / "defences.md"
ATTACK = ("--localizer", "reference", "--attack", "fgsm", "--phi", "1/255")


def documented():
    section = PAGE.read_text().split("\n## Your own\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return code


def test_the_documented_example_has_fifteen_lines_at_most_and_runs():
    assert len([line for line in documented().splitlines() if line.strip()]) <= 15
    results = doctest.testmod(custom_defence, extraglobs={"afbench": package}, raise_on_error=False)
    assert (results.failed, results.attempted) == (0, 4)


@pytest.fixture
def behind(afbench, module, photographs):
    """A benchmark attacked bare, and through the documented defence; and a call that attacks through any defence."""
    name = module(documented(), "my_module")

    def generate(*options):
        return afbench("generate", *ATTACK, "--source", f"folder:{photographs}", "--out", "OUT", *options)

    assert generate().code == 0
    ran = generate("--through-defence", f"{name}:build:sigma=0.5")
    assert ran.code == 0, ran.err
    return generate


def test_an_own_defence_goes_from_attack_to_score_and_is_told_from_another_version(behind, afbench, module):
    config = next(Path("OUT/manifests").glob("reference_soft*.json")).stem
    assert re.fullmatch(r"reference_soft_[0-9a-f]{6}-fgsm-1", config)
    record = read_json(Path("OUT") / "manifests" / f"{config}.json")["how"]["defence"]
    assert (record["name"], record["gradient"], record["weights_sha256"]) == ("soft", "exact", "")
    assert record["params"] == {
        "build": "my_module:build",
        "sigma": 0.5,
        "source_sha256": load_defence("my_module:build").params["source_sha256"],
    }
    options = ("--data", "OUT", "--localizer", "reference")
    defence = ("--defence", "my_module:build:sigma=0.5")
    ran = afbench("predict", *options, *defence, "--adaptive", "--out", "SUB")
    assert ran.code == 0, ran.err
    submitted = read_json(Path("SUB") / "manifest.json")["defence"]
    assert submitted["type"] == "soft" and submitted["params"] == record["params"]
    assert afbench("score", "SUB", "--data", "OUT", "--validate-only").code == 0
    ran = afbench("predict", *options, "--defence", "my_module:build", "--adaptive", "--out", "SUB2")
    assert ran.code == 2 and "has no config attacked through 'my_module:build'" in ran.err
    row = f"{config}/folder/photo1"
    assert afbench("reproduce", "OUT", "--row", row, "--through-defence", defence[1]).code == 0
    assert rescore(Path("OUT"), localizer_source=LocalizerSource(defence=defence[1])).left_out == {}

    module(documented().replace("(5.0) - 2)", "(5.0) - 1)"), "my_module")
    ran = behind("--through-defence", "my_module:build:sigma=0.5")
    assert ran.code == 2 and "defence.params.source_sha256: " in ran.err and "made differently" in ran.err
    ran = afbench("predict", *options, *defence, "--adaptive", "--out", "SUB3")
    assert ran.code == 2 and "has no config attacked through" in ran.err
    ran = afbench("reproduce", "OUT", "--row", row, "--through-defence", defence[1])
    assert ran.code == 2 and "made through a defence that is not at hand" in ran.err


@pytest.mark.parametrize("part", ["defence", "localizer"])
def test_a_module_that_a_benchmark_names_is_never_imported(behind, afbench, module, tmp_path, part):
    """Whoever made the benchmark may have put a module of that name where its readers work."""
    trap = module(f"open({str(tmp_path / 'sprung')!r}, 'w')\ndef build(*_): pass\n")
    for path in Path("OUT/manifests").glob("reference*.json"):
        manifest = json.loads(path.read_text())
        if part == "defence":
            manifest["how"]["defence"] = {
                "name": trap,
                "params": {"build": "build"},
                "weights_sha256": "",
                "seed": 0,
            }
        else:
            manifest["how"]["localizer"]["architecture"] = f"{trap}:build"
        path.write_text(json.dumps(manifest))
    config = next(Path("OUT/manifests").glob("reference_soft*.json")).stem
    assert config in rescore(Path("OUT")).left_out
    options = ("--localizer", "reference")
    for command in (
        ("verify", "OUT", "--deep"),
        ("verify", "OUT", "--repair"),
        ("reproduce", "OUT", "--row", f"{config}/folder/photo1"),
        ("preview", "OUT"),
        ("preview", "OUT", "--config", config),
        ("stats", "OUT"),
        ("inspect", "OUT", "--config", config),
        ("evaluate", "--data", "OUT", *options, "--defence", "jpeg"),
        ("predict", "--data", "OUT", *options, "--defence", "jpeg", "--adaptive", "--out", "SUB"),
    ):
        ran = afbench(*command)
        assert "Traceback" not in ran.err
        assert not (tmp_path / "sprung").exists(), command


def soft(image):
    return nn.functional.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)


def in_place(image):
    return image.mul_(0.9)


FAULTS = {
    "a text": (lambda image: "image", "gives a str; return a tensor"),
    "half the size": (lambda image: image[..., ::2, ::2], "for images (2, 3, 48, 64); keep the size"),
    "one channel": (lambda image: image[:, :1], "gives (2, 1, 48, 64)"),
    "float64": (lambda image: image.double(), "gives torch.float64 on cpu for torch.float32"),
    "range": (lambda image: image * 2 - 0.5, "; end with .clamp(0, 1)"),
    "not finite": (lambda image: image / 0, "gives values that are not finite"),
    "not finite beyond the range": (lambda image: image.clamp(max=1).sqrt() ** 2, "for images beyond [0, 1]"),
    "in place": (in_place, "changes the image it was handed"),
    "restless": (lambda image: (image + torch.rand(1) / 9).clamp(0, 1), "say random=True"),
    "batch": (lambda image: soft(image) * image.mean(), "treat each image by itself"),
    "no gradient": (lambda image: image.detach(), 'say gradient="bpda"'),
    "a gradient of zero": (lambda image: (image * 9).round() / 9, 'say gradient="bpda"'),
    "even sizes only": (
        lambda image: nn.functional.interpolate(soft(image)[..., ::2, ::2], scale_factor=2) * 0.5 + image / 2,
        "fails on images of 75x53 pixels (RuntimeError",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_that_says_how_to_mend_it(name):
    function, expected = FAULTS[name]
    with pytest.raises(UsageError) as refusal:
        load_defence(as_defence(function, name="mine"))
    assert expected in str(refusal.value) and str(refusal.value).startswith("defence 'mine' ")
    assert "\n" not in str(refusal.value)


def noisy(image, generators):
    noise = torch.stack([torch.rand(image.shape[1:], generator=generator) for generator in generators])
    return (image + noise.to(image) / 20).clamp(0, 1)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda image, generators: soft(image), "gives the same under every draw"),
        (
            lambda image, generators: (image + torch.rand(1) / 9).clamp(0, 1),
            "draws from elsewhere than the generators",
        ),
        (soft, "fails on images of 48x64 pixels (TypeError"),
    ],
)
def test_a_random_one_must_draw_and_only_from_its_generators(function, expected):
    with pytest.raises(UsageError, match=re.escape(expected)):
        load_defence(as_defence(function, name="mine", random=True))


def test_sound_ones_are_taken_exact_bpda_random_and_networks():
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Dropout(), nn.Sigmoid())
    rounded = lambda image: (image * 31).round() / 31  # noqa: E731 - no gradient of its own
    for defence in (
        as_defence(soft, name="soft"),
        as_defence(rounded, name="rounded", gradient="bpda"),
        as_defence(noisy, name="noisy", random=True),
        as_defence(
            lambda image, generators: rounded(noisy(image, generators)),
            name="dither",
            random=True,
            gradient="bpda",
        ),
        as_defence(network, name="net"),
    ):
        assert load_defence(defence) is defence
    assert not network.training and not any(one.requires_grad for one in network.parameters())
    other = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Dropout(), nn.Sigmoid())
    hashes = {as_defence(each, name="net").weights_sha256 for each in (network, other)}
    assert len(hashes) == 2 and "" not in hashes


def test_a_random_one_follows_the_seed_of_the_command_line(module):
    name = module("""
        import torch, afbench
        def noisy(image, generators):
            noise = torch.stack([torch.rand(image.shape[1:], generator=one) for one in generators])
            return (image + noise.to(image) / 20).clamp(0, 1)
        def build(device):
            return afbench.as_defence(noisy, name="noisy", random=True)
    """)
    image = torch.rand(1, 3, 16, 16)
    first, again, other = (load_defence(f"{name}:build", seed=seed) for seed in (3, 3, 4))
    assert first.describe()["seed"] == 3 and first.draws == EOT_DRAWS
    assert torch.equal(first.apply(image), again.apply(image))
    assert not torch.equal(first.apply(image), other.apply(image))
    assert not torch.equal(first.through(image, 0), first.through(image, 1))


@pytest.mark.parametrize(
    ("code", "function", "expected"),
    [
        ("import nowhere_at_all", "build", "cannot be imported (ModuleNotFoundError: No module named"),
        ("", "build", "cannot be imported (AttributeError"),
        ("def build(device): raise KeyError('layer 9')", "build", "failed (KeyError: 'layer 9', at "),
        (
            "def build(device): return lambda image: image",
            "build",
            "return afbench.as_defence(function, name",
        ),
        (
            "import afbench\ndef build(device): return afbench.defences.load_defence('jpeg')",
            "build",
            "gave a Purifier",
        ),
        ("def build(device): pass", "build:sigma=1", "unexpected keyword argument 'sigma'"),
        (
            "import afbench\ndef build(device, build=1): return afbench.as_defence(abs, name='x')",
            "build:build=2",
            "cannot be read",
        ),
    ],
)
def test_what_cannot_be_built_is_one_line_and_nothing_is_written(
    afbench, module, made, code, function, expected
):
    name = module(code)
    ran = afbench(
        "predict",
        "--data",
        made.folder,
        "--localizer",
        "reference",
        "--checkpoint",
        "random",
        "--defence",
        f"{name}:{function}",
        "--out",
        "SUB",
    )
    assert ran.code == 2 and expected in ran.err and len(ran.err.splitlines()) == 1
    assert not Path("SUB").exists()


@pytest.mark.parametrize("name", ["", "Soft", "jpeg", "jpeg-75", "post-jpeg", "gaussian", "a b", "x" * 41])
def test_a_name_that_looks_like_another_defence_or_is_none_is_refused(name):
    with pytest.raises(UsageError, match="name"):
        as_defence(soft, name=name)


def test_two_defences_of_one_label_are_not_taken_for_each_other(behind):
    pair = [as_defence(soft, name="mine", params={"low": low}) for low in (0, 0.1)]
    with pytest.raises(UsageError, match="two different defences are called mine"):
        open_evaluation(Path("OUT"), localizer="reference", defences=pair)


def scaled(image, k=1.0):
    return image * k


class Scale(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.k = k
        self.register_buffer("weight", torch.ones(1) * k, persistent=False)

    def forward(self, image):
        return image * self.k


def closed_over(k):
    return lambda image: image * k


def decorated_by(k):
    def decorate(function):
        @functools.wraps(function)
        def wrapped(image):
            return function(image) * k

        return wrapped

    return decorate(soft)


@pytest.mark.parametrize(
    "made",
    [
        lambda k: functools.partial(scaled, k=k),
        lambda k: functools.partial(scaled, k=torch.tensor(k)),
        closed_over,
        lambda k: closed_over(torch.tensor([k])),
        lambda k: closed_over(Scale(k)),
        lambda k: lambda image, k=k: image * k,
        decorated_by,
        lambda k: torch.no_grad()(closed_over(k)),
        lambda k: Scale(k).forward,
        Scale,
        lambda k: nn.Sequential(nn.Identity(), Scale(k)),
        lambda k: nn.AvgPool2d(1 + 2 * int(10 * k), 1, int(10 * k)),
        lambda k: nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Hardtanh(0, k)),
    ],
)
def test_all_that_an_object_holds_tells_it_from_another_and_not_from_its_like(made):
    first, again, other = (as_defence(made(k), name="mine").describe() for k in (0.5, 0.5, 0.7))
    assert first == again != other


def test_the_file_of_build_counts_even_where_the_function_is_a_library_s_or_decorated(module):
    hashes = set()
    for size, returned in (
        (3, "pool"),
        (7, "pool"),
        (3, "torch.no_grad()(blur)"),
        (7, "torch.no_grad()(blur)"),
    ):
        name = module(
            f"""
            import afbench, torch
            from torch import nn
            pool = nn.AvgPool2d({size}, 1, {size // 2})
            def blur(image):
                return pool(image)
            def build(device):
                return afbench.as_defence({returned}, name="pool", gradient="bpda")
            """,
            "my_pool",
        )
        hashes.add(load_defence(f"{name}:build").params["source_sha256"])
        assert load_defence(f"{name}:build").params["source_sha256"] in hashes
    assert len(hashes) == 4


def test_a_file_edited_in_a_living_process_is_refused_and_a_reload_takes_it(module):
    name = module(documented())
    old = load_defence(f"{name}:build").params["source_sha256"]
    file = Path(f"{name}.py")
    file.write_text(documented().replace("(5.0) - 2)", "(5.0) - 1)"))
    with pytest.raises(UsageError, match="has changed since it was imported; restart Python"):
        load_defence(f"{name}:build")
    importlib.reload(sys.modules[name])
    assert load_defence(f"{name}:build").params["source_sha256"] != old


def test_two_functions_that_nothing_recorded_tells_apart_are_not_evaluated_together(behind):
    pair = [as_defence(lambda image, low=low: image, name="mine") for low in (iter([0]), iter([1]))]
    assert pair[0].describe() == pair[1].describe()
    with pytest.raises(UsageError, match="nothing recorded tells them apart"):
        open_evaluation(Path("OUT"), localizer="reference", defences=pair)
    assert open_evaluation(Path("OUT"), localizer="reference", defences=[pair[0], pair[0]])
