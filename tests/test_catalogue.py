"""Attacks of the torchattacks library: which are taken, that they do what they say here, and which are refused."""

import copy
import inspect
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from afbench.core import Sample, Setting, UsageError
from afbench.engine import AttackedRow, Failure, judge, run_settings
from afbench.engine.torchattacks_adapter import attack_one
from afbench.images import decode_stored
from afbench.localizers import load_localizer
from afbench.metrics import f1
from afbench.plans import ATTACKS, CLASSES, config_name, expand_attack, naive_gradients, queries, read_plan
from afbench.plans.attack_names import parse_attack
from afbench.plans.catalogue import UNUSABLE
from afbench.sources import open_source

torchattacks = pytest.importorskip("torchattacks")

NAMES = sorted(CLASSES.values())
every_name = pytest.mark.parametrize("name", NAMES)
NO_LIBRARY = r"needs torchattacks 3\.5\.1, and .*: pip install .*--no-deps torchattacks==3\.5\.1"


class Net(nn.Module):
    """Layers a library could disturb, in float64, so that a batch changes no bit."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.Tanh(),
            nn.Dropout(0.5),
            nn.Conv2d(6, 1, 3, padding=1),
        )
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.double().eval()

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(4 * (image.double() - 0.5))


@dataclass(frozen=True)
class Lab:
    net: Callable[[Tensor], Tensor]
    name: str = "lab"
    threshold: float = 0.5
    weights_sha256: str = "0" * 64

    def logits(self, image: Tensor) -> Tensor:
        return self.net(image)

    def probability(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.net(image))


def _sample(number: int, height: int = 16, width: int = 24) -> Sample:
    pixels = np.random.default_rng(number).integers(-40, 296, (height, width, 3)).clip(0, 255)
    mask = np.zeros((height, width), np.uint8)
    mask[4:12, 6:14] = 255
    return Sample(f"sample-{number}", pixels.astype(np.uint8), mask)


SAMPLES = [_sample(0), _sample(1), _sample(2, 24, 16)]


def _run(
    settings: Sequence[Setting], samples: Sequence[Sample], lab: Any, **given: Any
) -> dict[Setting, list]:
    before = judge(
        given.pop("sound", lab),
        [one.image for one in samples],
        [one.mask for one in samples],
        batch_size=8,
        device="cpu",
    )
    options = {"seed": 0, "batch_size": 8, "device": "cpu", "image_format": "webp"} | given
    return run_settings(lab, samples, before, settings, **options)


def _pixels(name: str, samples: Sequence[Sample], lab: Any = None, **given: Any) -> dict[str, np.ndarray]:
    (setting,) = expand_attack(f"torchattacks:{name}", phi=[given.pop("phi", "2/255")])
    rows = _run([setting], samples, lab or Lab(Net()), **given)[setting]
    return {row.sample.sample_id: row.image for row in rows if isinstance(row, AttackedRow)}


@every_name
def test_defaults_are_the_librarys_with_radius_and_step_scaled_by_phi(name: str) -> None:
    theirs = {
        key: one.default
        for key, one in inspect.signature(getattr(torchattacks, name)).parameters.items()
        if key != "model"
    }
    radius = theirs.get("eps", theirs.get("max_epsilon"))
    for key, value in ATTACKS[f"ta_{name.lower()}"].defaults.items():
        if key.startswith("alpha_over"):
            assert theirs["alpha"] / radius == pytest.approx(value)
        elif key not in ("torchattacks", "eps"):
            assert theirs[key] == value
    # what is not offered: PIFGSM does not use two of its parameters, UPGD's other losses are for many classes
    rest = theirs.keys() - ATTACKS[f"ta_{name.lower()}"].defaults.keys() - {"eps", "max_epsilon", "alpha"}
    assert rest <= {"momentum", "prob", "loss", "eps_for_division"}


@pytest.mark.parametrize(
    "name",
    [
        # the gradients of many neighbours
        pytest.param(name, marks=[pytest.mark.slow] * (name in ("VMIFGSM", "VNIFGSM", "SINIFGSM")))
        for name in NAMES
    ],
)
def test_it_lowers_f1_of_the_reference_localizer_and_stays_in_the_ball(name: str) -> None:
    samples = [_crop(open_source("demo").read(one)) for one in _SAMPLES_OF_THE_DEMO]
    localizer = load_localizer("reference")
    (setting,) = expand_attack(f"torchattacks:{name}", phi=["3/255"])
    rows = _run([setting], samples, localizer)[setting]
    for row in rows:
        moved = np.abs(decode_stored(row.encoded).astype(int) - row.sample.image)
        assert 1 <= moved.max() <= 3
    before, after = (
        sum(f1(counts) for counts in told)
        for told in zip(
            *[(row.original_result.counts, row.attacked_result.counts) for row in rows], strict=True
        )
    )
    assert after < 0.7 * before


_SAMPLES_OF_THE_DEMO = ("demo-118-splice-astronaut", "demo-109-removal-carcassonne")


def _crop(sample: Sample) -> Sample:
    """64 pixels square around the forged region."""
    rows, columns = np.nonzero(sample.mask)
    top, left = (int(np.clip(np.median(one) - 32, 0, 64)) for one in (rows, columns))
    part = (slice(top, top + 64), slice(left, left + 64))
    return replace(sample, image=sample.image[part].copy(), mask=sample.mask[part].copy())


@pytest.mark.parametrize(
    ("theirs", "ours", "params"),
    [
        ("FGSM", "fgsm", {}),
        ("BIM", "bim", {}),
        ("MIFGSM", "mifgsm", {"alpha_over_phi": 0.25}),
        ("PGD:random_start=false", "bim", {}),
        ("UPGD:decay=0", "bim", {}),
    ],
)
def test_what_we_have_too_comes_out_the_same(theirs: str, ours: str, params: dict[str, float]) -> None:
    (setting,) = expand_attack(ours, phi=["2/255"], params=params)
    lab = Lab(Net())
    expected = {row.sample.sample_id: row.image for row in _run([setting], SAMPLES, lab)[setting]}
    found = _pixels(theirs, SAMPLES, lab)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], expected[key]) for key in expected)


@every_name
def test_an_image_depends_neither_on_its_batch_nor_on_what_was_drawn_before(name: str) -> None:
    small = f"{name}:steps=3" if "steps" in ATTACKS[f"ta_{name.lower()}"].defaults else name
    together = _pixels(small, SAMPLES)
    assert len(together) == len(SAMPLES)
    torch.manual_seed(123)
    alone = _pixels(small, SAMPLES[1:2])
    assert np.array_equal(alone["sample-1"], together["sample-1"])
    random = {"RFGSM", "PGD", "EOTPGD", "FFGSM", "TPGD", "VMIFGSM", "VNIFGSM", "DIFGSM", "TIFGSM", "PGDL2"}
    other = _pixels(small, SAMPLES, seed=1)
    assert all(np.array_equal(other[key], together[key]) for key in other) == (name not in random)


@every_name
def test_localizer_and_random_state_are_left_as_they_were(name: str) -> None:
    net = Net()
    net.layers[2].train()  # not of the dropout, which draws numbers by itself
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 7)
    net.layers[0].bias.requires_grad_(False)
    told = [(one.requires_grad, module.training) for module in net.modules() for one in module.parameters()]
    state, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    _pixels(name, SAMPLES[:1], Lab(net))
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all((parameter.grad == 7).all() for parameter in net.parameters())
    assert told == [
        (one.requires_grad, module.training) for module in net.modules() for one in module.parameters()
    ]
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("text", "gradients"),
    [
        ("FGSM", 1),
        ("FFGSM", 1),
        ("BIM:steps=3", 3),
        ("RFGSM:steps=3", 3),
        ("PGD:steps=3", 3),
        ("TPGD:steps=3", 3),
        ("EOTPGD:steps=3:eot_iter=4", 12),
        ("UPGD:steps=3:eot_iter=2", 6),
        ("MIFGSM:steps=3", 3),
        ("NIFGSM:steps=3", 3),
        ("SINIFGSM:steps=3:m=2", 6),
        ("VMIFGSM:steps=3:N=2", 9),
        ("VNIFGSM:steps=3:N=2", 9),
        ("DIFGSM:steps=3", 3),
        ("TIFGSM:steps=3", 3),
        ("PIFGSM:num_iter_set=3", 3),
        ("PGDL2:steps=3", 3),
    ],
)
def test_it_takes_the_gradients_that_plans_promise(text: str, gradients: int) -> None:
    (setting,) = expand_attack(f"torchattacks:{text}", phi=["2/255"])
    taken, asked = list[int](), list[int]()
    _run([setting], SAMPLES, Lab(Net()), on_gradients=taken.append, on_queries=asked.append)
    assert sum(taken) == gradients * len(SAMPLES) and naive_gradients(setting) == gradients
    assert sum(asked) == queries(setting) * len(SAMPLES)


@pytest.mark.parametrize("name", ["FGSM", "MIFGSM", "PGDL2", "PIFGSM"])
def test_a_gradient_that_is_not_finite_is_a_failure_and_harms_no_other_image(name: str) -> None:
    net = Net()

    def broken(image: Tensor) -> Tensor:
        bright = image.detach().mean(dim=(1, 2, 3), keepdim=True) > 0.9
        return net(image) * torch.where(bright, torch.nan, 1.0)

    white = replace(SAMPLES[1], sample_id="white", image=np.full_like(SAMPLES[1].image, 255))
    (setting,) = expand_attack(f"torchattacks:{name}", phi=["2/255"])
    first, second, third = _run([setting], [SAMPLES[0], white, SAMPLES[1]], Lab(broken))[setting]
    assert isinstance(second, Failure) and second.reason == "nonfinite_gradient"
    expected = _pixels(name, SAMPLES[:2], Lab(net))
    assert np.array_equal(first.image, expected["sample-0"]) and np.array_equal(
        third.image, expected["sample-1"]
    )


def test_pgdl2_searches_the_smallest_l2_ball_around_the_phi_ball() -> None:
    """The library is asked for that radius; what is stored is clipped to the phi ball."""
    asked = list[float]()
    image = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)

    def logits(x: Tensor) -> Tensor:
        asked.append(float((x - image).detach().norm()))
        return -x[:, :1] * torch.arange(64, dtype=torch.float64).reshape(8, 8)

    mask = torch.ones(1, 1, 8, 8)
    (setting,) = expand_attack("torchattacks:PGDL2:steps=9:random_start=false", phi=["2/255"])
    found = attack_one(logits, image, mask, setting, key=1, phi=2 / 255)
    radius = 2 / 255 * (3 * 8 * 8) ** 0.5
    assert max(asked) == pytest.approx(radius, rel=1e-6)
    assert float((found - image).abs().max()) == pytest.approx(2 / 255)


def test_a_step_size_may_be_given_and_then_does_not_follow_phi() -> None:
    one, two = expand_attack("torchattacks:BIM:alpha=1/255:steps=1", phi=["1/255", "3/255"])
    assert one.params["alpha"] == two.params["alpha"] == 1 / 255 and "alpha_over_phi" not in one.params
    done = _run([two], SAMPLES[:1], Lab(Net()))[two]
    assert done[0].distance.linf == 1


@pytest.mark.parametrize("name", sorted(UNUSABLE))
def test_what_is_wrong_on_localizers_is_refused_by_name_with_the_reason(name: str) -> None:
    for text in (name, name.lower(), f"{name}:steps=3"):
        with pytest.raises(UsageError, match=f"torchattacks:{name}' cannot be used on localizers: ") as told:
            expand_attack(f"torchattacks:{text}")
        assert UNUSABLE[name] in str(told.value)


def test_the_whole_catalogue_of_the_library_is_either_taken_or_refused() -> None:
    assert {*torchattacks.__all__, "PGN"} == {*NAMES, *UNUSABLE}


def test_the_document_names_every_attack_with_its_defaults() -> None:
    told = (Path(__file__).parent.parent / "docs" / "attacks.md").read_text(encoding="utf-8")
    taken, refused = told.split("| refused (exit 2) |")
    catalogue = taken.split("## The torchattacks catalogue")[1]  # other tables of the page name attacks, too
    for name in NAMES:
        (row,) = [line for line in catalogue.splitlines() if line.startswith(f"| {name} |")]
        usual = {"steps": 10, "alpha_over_phi": 0.25, "torchattacks": "3.5.1"}
        for key, value in ATTACKS[f"ta_{name.lower()}"].defaults.items():
            if usual.get(key) != value and key != "eps" and name != "TIFGSM":
                assert re.search(rf"{key}={str(value).lower().removesuffix('.0')}\b", row), (name, key)
    assert all(re.search(rf"\b{name}\b", refused) for name in UNUSABLE)
    for attack in ATTACKS.values():
        if not attack.asked_as:
            assert f"| `{attack.name}` |" in taken
            assert all(f"{key}=" in taken or key in ("lr", *attack.fixed) for key in attack.defaults)


class TwoClasses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net().float()

    def forward(self, image: Tensor) -> Tensor:
        z = self.net.layers(4 * (image.float() - 0.5))
        return torch.cat([torch.zeros_like(z), z], 1)


_FAIL = sorted(UNUSABLE.keys() - {"GN", "VANILA", "PIFGSMPP", "PGN", "LGV", "MultiAttack"})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", _FAIL)
def test_what_is_said_to_fail_does_fail(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 9, 12, generator=generator)
    model = TwoClasses().eval()
    truth = (model(image)[:, 1] > 0).long()
    short = {"OnePixel": {"steps": 1, "popsize": 2}, "SPSA": {"nb_sample": 2, "max_batch_size": 2}}
    with pytest.raises(Exception, match=r"."):
        getattr(torchattacks, name)(model, **short.get(name, {}))(image, truth)


def test_the_kernel_of_pifgsmpp_differs_between_colours() -> None:
    kernel = torchattacks.PIFGSMPP(TwoClasses()).gaussian_kern(3, 3)
    assert not torch.equal(kernel[0], kernel[1])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("torchattacks", "lacks a name, as in torchattacks:TPGD; known names: BIM, DIFGSM"),
        ("torchattacks:", "lacks a name"),
        (
            "torchattacks:TGPD",
            r"torchattacks 3.5.1 has no attack 'TGPD'; did you mean TPGD or EOTPGD\? known names: BIM",
        ),
        ("torchattacks:BIM:steps", "expected param=value, e.g. steps=20; found 'steps'"),
        ("torchattacks:BIM:steps=2:steps=3", "gives steps twice: 2 and 3"),
        ("torchattacks:BIM:steps=x", "parameter steps must be a number; found 'x'"),
        ("torchattacks:BIM:steps=1.5", "parameter steps must be a whole number from 1"),
        ("torchattacks:BIM:eps=0.1", "attack 'ta_bim' has its eps from --phi"),
        ("torchattacks:PIFGSM:max_epsilon=0.1", "has its max_epsilon from --phi"),
        ("torchattacks:BIM:decay=1", "attack 'ta_bim' has no parameter 'decay'; its parameters: steps"),
        ("torchattacks:BIM:alpha=1/0", "parameter alpha must be a number"),
        ("torchattacks:BIM:alpha=0", "parameter alpha must be a positive number"),
        ("torchattacks:BIM:alpha=1e-999999999", "parameter alpha must be a positive number"),
        ("torchattacks:BIM:alpha=1/255:alpha_over_phi=1", "takes alpha or alpha_over_phi; found both"),
        ("torchattacks:PGD:random_start=maybe", "parameter random_start must be true or false"),
        ("torchattacks:DIFGSM:diversity_prob=2", r"parameter diversity_prob must be in \[0, 1\]"),
        ("torchattacks:DIFGSM:resize_rate=0", "parameter resize_rate must be"),
        ("torchattacks:TIFGSM:kernel_name=box", "kernel_name must be one of gaussian, linear, uniform"),
        ("torchattacks:BIM:torchattacks=3.4", "parameter torchattacks must be one of 3.5.1"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        expand_attack(text, phi=["1/255"])


def test_names_are_read_in_any_case_and_configs_are_called_ta() -> None:
    assert parse_attack("torchattacks:vmifgsm:N=2") == ("ta_vmifgsm", {"N": "2"})
    assert parse_attack("pgd") == ("pgd", {})
    names = [
        config_name("reference", one) for one in expand_attack("torchattacks:TPGD", phi=["2/255", "3/510"])
    ]
    assert names == ["reference-ta_tpgd-2", "reference-ta_tpgd-1p5"]
    (other,) = expand_attack("torchattacks:TPGD:steps=4", phi=["2/255"])
    assert config_name("reference", other).startswith("reference-ta_tpgd-2-")
    (same,) = expand_attack("torchattacks:TPGD:steps=10", phi=["2/255"])
    assert config_name("reference", same) == "reference-ta_tpgd-2"


def test_a_benchmark_of_the_catalogue_is_made_verified_and_says_how(afbench: Any, tmp_path: Any) -> None:
    out = tmp_path / "out"
    done = afbench(
        "generate", "--localizer", "reference", "--attack", "torchattacks:TPGD:steps=2", "--attack", "fgsm",
        "--phi", "2/255", "--source", "demo", "--limit", 1, "--out", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    (path,) = (out / "manifests").glob("reference-ta_tpgd-2-*.json")
    how = json.loads(path.read_text())["how"]
    assert how["attack"] == "ta_tpgd" and how["steps"] == 2 and how["phi"] == "2/255"
    assert how["params"] == {"steps": 2, "alpha_over_phi": 0.25, "torchattacks": "3.5.1"}
    assert afbench("verify", out).code == 0
    assert "ta_tpgd" in afbench("stats", out).out


def test_a_plan_file_may_name_the_catalogue(tmp_path: Any) -> None:
    text = (
        "name: mine\nblocks:\n- localizers: [reference]\n  sources: [demo]\n  attacks:\n"
        "  - {attack: 'torchattacks:TPGD', phi: [2/255], params: {steps: 4}}\n"
        "  - {attack: 'torchattacks:SINIFGSM:m=3', phi: [2/255]}\n"
    )
    (tmp_path / "plan.yaml").write_text(text)
    first, second = read_plan(str(tmp_path / "plan.yaml")).blocks[0].settings
    assert (first.attack, first.params["steps"]) == ("ta_tpgd", 4)
    assert (second.attack, second.params["m"]) == ("ta_sinifgsm", 3)


@pytest.mark.parametrize("found", [None, "3.4.3"])
def test_a_missing_library_is_said_with_the_way_to_install_it_before_anything_is_written(
    afbench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, found: str | None
) -> None:
    def version(name: str) -> str:
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr("afbench.plans.catalogue.version", version)
    asked = ["--localizer", "reference", "--attack", "torchattacks:TPGD", "--source", "demo", "--limit", "1"]
    done = afbench("generate", *asked, "--out", tmp_path / "out")
    assert done.code == 2 and done.err.count("\n") == 1 and not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match=NO_LIBRARY):
        _pixels("TPGD", SAMPLES[:1])
    # what is only planned needs no library
    assert afbench("plan", *asked).code == 0


def test_refusals_end_with_code_2_and_the_list_shows_what_is_taken(afbench: Any) -> None:
    done = afbench("generate", "--localizer", "reference", "--attack", "torchattacks:CW", "--source", "demo")
    assert done.code == 2 and "use --attack cw" in done.err and done.err.count("\n") == 1
    listed = afbench("list", "attacks").out
    assert all(f"torchattacks:{name} " in listed for name in NAMES)
