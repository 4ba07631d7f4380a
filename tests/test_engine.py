"""What the engine promises: shared gradients, independence of company, honest scores, quarantine."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import attacks
from afbench.core import Sample, Setting, UsageError
from afbench.engine import AttackedRow, Failure, block, grid, judge, noisy_images, run_settings
from afbench.engine.grid import AttackBatch, attack_batch
from afbench.engine.meter import Meter
from afbench.engine.objectives import image_loss, pixel_losses
from afbench.images import decode_stored, masks_to_tensor, to_tensor
from afbench.losses import ATTACK_LOSSES
from afbench.metrics import f1
from afbench.plans import (
    expand_attack,
    make_setting,
    max_levels,
    queries,
    read_plan,
    settings_by_group,
    shared_gradients,
)
from afbench.plans.ensemble import MEMBERS, STEPS
from afbench.plans.params import LOSSES
from afbench.storage.summary import summarise
from afbench.workflows.generation.stored_rows import attacked_row, hash_sample

GROUPS = {
    "sign": [
        *expand_attack("fgsm"),
        *expand_attack("bim", params={"steps": 3}),
        *expand_attack("mifgsm", params={"steps": 3}),
    ],
    "pgd": expand_attack("pgd", params={"steps": 3}),
    "pgn": expand_attack("pgn", params={"steps": 2, "neighbours": 3}),
    "cw": expand_attack("cw", steps=[2, 5, 3]),
    "cw search": expand_attack("cw", steps=[2, 5], params={"c_search": 3, "kappa": 0.2, "lr": 0.02}),
    "noise": expand_attack("noise"),
    "empty": [
        *expand_attack("fgsm", params={"target": "empty"}),
        *expand_attack("bim", params={"target": "empty", "steps": 3}),
        *expand_attack("fgsm", phi=["1/255"]),
    ],
    "losses": [
        *expand_attack("fgsm", params={"loss": "soft-f1"}),
        *expand_attack("bim", params={"loss": "soft-f1", "steps": 3}),
        *expand_attack("mifgsm", params={"loss": "js", "steps": 3}),
        *expand_attack("bim", phi=["1/255"], params={"target": "hide", "steps": 3}),
        *expand_attack("bim", phi=["1/255"], params={"loss": "balanced-ce", "target": "hide", "steps": 3}),
    ],
    "segpgd": expand_attack("segpgd", params={"steps": 3}),
    "cospgd": expand_attack("cospgd", params={"steps": 3}),
    "apgd": [
        *expand_attack("apgd", params={"steps": 5}),
        *expand_attack("apgd", phi=["2/255"], params={"steps": 5, "loss": "soft-f1"}),
    ],
    "square": expand_attack("square", params={"queries": 12}),
    "strong": expand_attack("strong", phi=["1/255", "2/255"]),
}
every_group = pytest.mark.parametrize("group", GROUPS)


@pytest.fixture(autouse=True)
def short_ensemble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three gradients for each member: the promises are the same, and the tests take a fifth of the time."""
    monkeypatch.setattr(grid, "STEPS", 3)


@cache
def _weights() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = (6, 3, 3, 3), (1, 6, 3, 3)
    first, second = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return first, second


def _net(image: Tensor) -> Tensor:
    first, second = _weights()
    hidden = torch.tanh(F.conv2d(4 * (image.double() - 0.5), first, padding=1))
    return F.conv2d(hidden, second, padding=1)


@dataclass(frozen=True)
class Lab:
    """A localizer made by hand; computes in float64, so that a batch changes no bit of a result."""

    net: Callable[[Tensor], Tensor] = _net
    name: str = "lab"
    threshold: float = 0.5
    weights_sha256: str = "0" * 64

    def logits(self, image: Tensor) -> Tensor:
        return self.net(image)

    def probability(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.net(image))


def _sample(number: int, height: int = 16, width: int = 32) -> Sample:
    pixels = np.random.default_rng(number).integers(-40, 296, (height, width, 3)).clip(0, 255)
    mask = np.zeros((height, width), np.uint8)
    mask[4:12, 6:14] = 255
    return Sample(f"sample-{number}", pixels.astype(np.uint8), mask)


SAMPLES = [_sample(0), _sample(1), _sample(2, 32, 16)]
_INSIDE = (SAMPLES[0].image > 2) & (SAMPLES[0].image < 253)


def _run(
    settings: Sequence[Setting], samples: Sequence[Sample] = SAMPLES, lab: Lab | None = None, **given: Any
) -> dict[Setting, list[AttackedRow | Failure]]:
    lab = lab or Lab()
    images, masks = [one.image for one in samples], [one.mask for one in samples]
    before = judge(given.pop("sound", lab), images, masks, batch_size=8, device="cpu")
    options = {"seed": 0, "batch_size": 8, "device": "cpu", "image_format": "webp"} | given
    return run_settings(lab, samples, before, settings, **options)


def _bytes(done: dict[Setting, list[AttackedRow | Failure]]) -> dict[tuple[str, str, str], bytes]:
    return {
        (setting.attack, setting.label, row.sample.sample_id): row.encoded
        for setting, rows in done.items()
        for row in rows
        if isinstance(row, AttackedRow)
    }


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (expand_attack("fgsm"), 1),
        ([*expand_attack("fgsm"), *expand_attack("bim"), *expand_attack("mifgsm")], 1 + 27 + 27),
        (expand_attack("bim"), 1 + 27),
        (expand_attack("pgd"), 30),
        (expand_attack("mifgsm"), 1 + 27),
        (expand_attack("pgn"), 1200),
        (expand_attack("pgn", params={"neighbours": 2}), 2 * 2 * 10 * 3),
        (expand_attack("cw"), 250),
        (expand_attack("cw", steps=[2, 5], params={"c_search": 3}), 3 * (2 + 5)),
        (expand_attack("noise"), 0),
        ([*expand_attack("fgsm"), *expand_attack("fgsm", params={"target": "empty"})], 2),
        ([*expand_attack("fgsm"), *expand_attack("fgsm", params={"loss": "js"})], 2),
        (expand_attack("pgd", params={"target": "empty"}), 30),
        (expand_attack("segpgd"), 30),
        (expand_attack("cospgd"), 30),
        (expand_attack("apgd"), 60),
        (expand_attack("strong", phi=["1/255"]), 120),
        (expand_attack("square", params={"queries": 9}), 0),
    ],
    ids=[
        *("fgsm", "sign group", "bim", "pgd", "mifgsm", "pgn", "pgn of 2", "cw", "cw search", "noise"),
        *("targets", "losses", "pgd to empty", "segpgd", "cospgd", "apgd", "strong", "square"),
    ],
)
def test_a_group_takes_exactly_the_gradients_it_needs(
    settings: list[Setting], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "STEPS", STEPS)
    samples = [_sample(0, 16, 16), _sample(1, 16, 16)]
    taken: list[int] = []
    # F1 does not reach 0 here, where the ensemble would end
    _run(settings, samples, on_gradients=taken.append)
    assert sum(taken) == expected * len(samples)
    assert shared_gradients(settings) == expected


def test_the_grid_of_the_paper_takes_1535_gradients_an_image() -> None:
    (block, _) = read_plan("ansm-table3").blocks
    taken = {name: list[int]() for name in settings_by_group(block.settings)}
    for name, settings in settings_by_group(block.settings).items():
        _run(settings, [_sample(0, 16, 16)], on_gradients=taken[name].append)
    assert {name: sum(counts) for name, counts in taken.items()} == {
        "sign": 1 + 27 + 27,
        "pgd": 30,
        "pgn": 1200,
        "cw": 250,
    }


def test_an_attack_without_gradients_tells_its_queries() -> None:
    (first, *_) = settings = expand_attack("square", params={"queries": 9})
    told: list[int] = []
    _run(settings, SAMPLES[:2], on_queries=told.append)
    assert sum(told) == 2 * 3 * 9 and queries(first) == 9


def test_the_search_of_cw_tells_its_queries_and_leaves_no_more_f1_than_one_round() -> None:
    samples = [_sample(0, 24, 24), _sample(1, 24, 24)]
    plain, searched = (make_setting("cw", 20, {"lr": 0.01, **params}) for params in ({}, {"c_search": 4}))
    asked: list[int] = []
    rows = _good(_run([searched], samples, on_queries=asked.append)[searched])
    assert sum(asked) == len(samples) * queries(searched) == len(samples) * 4
    for row, plain_row in zip(rows, _good(_run([plain], samples)[plain]), strict=True):
        assert f1(row.attacked_result.counts) <= f1(plain_row.attacked_result.counts)


class OnePassLab(Lab):
    """The same with probability and logits from one pass, as every localizer of afbench has."""

    def probability_and_logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.net(image)
        return torch.sigmoid(logits), logits


def test_the_ensemble_tells_its_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "STEPS", STEPS)
    (setting,) = expand_attack("strong", phi=["1/255"])
    passed: dict[type[Lab], list[int]] = {OnePassLab: [], Lab: []}
    for lab, counts in passed.items():
        _run([setting], [_sample(0, 16, 16)], lab=lab(), on_queries=counts.append)
    assert sum(passed[OnePassLab]) == queries(setting)
    # scores on the grid then take passes of their own, but for the last
    assert sum(passed[Lab]) == queries(setting) + STEPS - 1


def test_scores_from_the_pass_of_a_gradient_change_no_byte_of_the_ensemble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # enough for a step size to be halved and a point to be taken back
    monkeypatch.setattr(grid, "STEPS", 12)
    settings = expand_attack("strong", phi=["1/255", "3/255"])
    assert _bytes(_run(settings, lab=OnePassLab())) == _bytes(_run(settings))


def test_the_ensemble_ends_once_f1_is_0_and_stores_the_bytes_of_the_whole_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = expand_attack("strong", phi=["2/255", "6/255"], large_phi=True)
    lab = Lab(lambda image: 20 * (image.double()[:, :1] - 0.5))
    # the first two lose every pixel at the larger phi, the last never
    samples = [_grey(0, 4), _grey(1, 4), _grey(2, 60)]
    whole_run = grid.attacks.strong
    for batch_size, gradients in ((1, 24 + 24 + 3 + 24 + 3 + 24), (8, 2 * 3 * 24)):
        taken: list[int] = []
        early = _run(settings, samples, lab, batch_size=batch_size, on_gradients=taken.append)
        with monkeypatch.context() as patch:
            patch.setattr(
                grid.attacks,
                "strong",
                lambda *given, **named: whole_run(*given, **named | {"lowest": -math.inf}),
            )
            full = _run(settings, samples, lab, batch_size=batch_size)
        assert _bytes(early) == _bytes(full)
        assert _members(early) == _members(full)
        assert sum(taken) == gradients


def _grey(number: int, contrast: int) -> Sample:
    """A sample whose values stray from grey by so many levels."""
    pixels = np.random.default_rng(number).integers(128 - contrast, 128 + contrast, (16, 32, 3))
    return replace(_sample(number), image=pixels.astype(np.uint8))


def _members(results: dict[Setting, list[AttackedRow | Failure]]) -> list[str]:
    return [row.member for rows in results.values() for row in _good(rows)]


def test_the_ensemble_is_the_worst_case_of_each_image_and_says_who_made_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grid, "STEPS", STEPS)
    (setting,) = expand_attack("strong", phi=["3/255"])
    rivals = [
        expand_attack(attack, phi=["3/255"], params={"loss": loss, "steps": 15})[0]
        for attack in ("apgd", "bim")
        for loss in ("soft-f1", "js", "masked-ce")
    ]
    rows = _good(_run([setting])[setting])
    f1_of = {row.sample.sample_id: f1(row.attacked_result.counts) for row in rows}
    for rival_rows in _run(rivals).values():
        for row in _good(rival_rows):
            assert f1_of[row.sample.sample_id] <= f1(row.attacked_result.counts) + 0.02
    for row in rows:
        assert f1(row.attacked_result.counts) < f1(row.original_result.counts)
        assert row.member in MEMBERS[1:]


@pytest.mark.parametrize("scale", [0.25, 4])
def test_the_ensemble_does_not_see_the_scale_of_logits(scale: float) -> None:
    """A factor changes no decision: with a power of two not one bit of the result."""
    (setting,) = expand_attack("strong", phi=["2/255"])
    rows = _run([setting])[setting]
    scaled_rows = _run([setting], lab=Lab(lambda image: scale * _net(image)))[setting]
    assert [row.encoded for row in _good(rows)] == [row.encoded for row in _good(scaled_rows)]
    bim = expand_attack("bim", phi=["2/255"])
    assert _bytes(_run(bim)) != _bytes(_run(bim, lab=Lab(lambda image: scale * _net(image))))


def test_the_ensemble_counts_decisions_from_the_localizers_threshold() -> None:
    """Logits moved with the threshold are the same localizer."""
    (setting,) = expand_attack("strong", phi=["2/255"])
    lab = Lab(lambda image: _net(image) + 1, threshold=1 / (1 + math.exp(-1)))
    rows = zip(_good(_run([setting])[setting]), _good(_run([setting], lab=lab)[setting]), strict=True)
    for row, moved in rows:
        assert abs(f1(row.attacked_result.counts) - f1(moved.attacked_result.counts)) < 0.02


def test_towards_the_empty_mask_forged_pixels_vanish_and_none_appear() -> None:
    """On the same images the untargeted attack makes false ones."""
    (away,) = expand_attack("pgd", phi=["20/255"])
    (towards,) = expand_attack("pgd", phi=["20/255"], params={"target": "empty"})
    done = _run([away, towards])
    predicted = {
        setting: sum(
            row.attacked_result.counts.tp + row.attacked_result.counts.fp for row in _good(done[setting])
        )
        for setting in (away, towards)
    }
    before = sum(row.original_result.counts.tp + row.original_result.counts.fp for row in _good(done[away]))
    assert predicted[towards] < 0.75 * before and predicted[away] > before


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_raised_as_its_function_says_from_the_localizers_threshold(loss: str) -> None:
    """One step of phi along the sign of its gradient, in logits counted from the threshold but for ``bce``."""
    (setting,) = expand_attack("fgsm", phi=["2/255"], params={"loss": loss})
    image = to_tensor([SAMPLES[0].image]).double().requires_grad_()
    mask = masks_to_tensor([SAMPLES[0].mask]).double()
    offset = 0 if loss == "bce" else math.log(0.7 / 0.3)
    (slope,) = torch.autograd.grad(ATTACK_LOSSES[loss](_net(image) - offset, mask).sum(), image)
    expected = torch.clamp(image + 2 / 255 * slope.sign(), 0, 1)
    batch = AttackBatch(["one"], image.detach(), mask)
    lab = Lab(threshold=0.7)
    (attacked,) = attack_batch(lab, batch, [setting], seed=0, batch_size=1, meter=Meter())
    assert torch.equal(attacked.image, expected.detach())


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "mifgsm", "segpgd", "cospgd", "apgd"])
def test_an_attack_is_called_with_what_its_parameters_are_named_after(name: str) -> None:
    """Only those without a default: APGD begins at the image, although it can begin elsewhere."""
    (setting,) = expand_attack(name, phi=["2/255"], params={} if name == "fgsm" else {"steps": 3})
    image = to_tensor([SAMPLES[0].image]).double()
    mask = masks_to_tensor([SAMPLES[0].mask]).double()
    batch = AttackBatch(["sample-0"], image, mask)
    (attacked,) = attack_batch(Lab(), batch, [setting], seed=0, batch_size=1, meter=Meter())
    phi = torch.full((1, 1, 1, 1), 2 / 255, dtype=torch.float64)
    start = attacks.uniform(torch.tensor([grid._key(0, "sample-0", setting)]), (3, 16, 32), 0)
    stepped = {"phi": phi, "alpha": phi * setting.params.get("alpha_over_phi", 1), "steps": 3}
    loss = image_loss(Lab(), mask, "bce", "mask")
    losses = pixel_losses(Lab(), mask)
    expected = {
        "fgsm": lambda: attacks.fgsm(loss, image, phi=phi),
        "bim": lambda: attacks.bim(loss, image, **stepped),
        "pgd": lambda: attacks.pgd(loss, image, start=start, **stepped),
        "mifgsm": lambda: attacks.mifgsm(loss, image, mu=1.0, **stepped),
        "segpgd": lambda: attacks.segpgd(losses, image, start=start, **stepped),
        "cospgd": lambda: attacks.cospgd(losses, image, start=start, **stepped),
        "apgd": lambda: attacks.apgd(loss, image, phi=phi, steps=3),
    }
    assert torch.equal(attacked.image, expected[name]())


def test_the_target_hide_moves_logits_of_forged_pixels_alone() -> None:
    """Away from the truth and towards an empty mask the authentic pixels of the cross-entropy cancel."""
    (setting,) = expand_attack("fgsm", phi=["2/255"], params={"target": "hide"})
    image = to_tensor([SAMPLES[0].image]).double().requires_grad_()
    mask = masks_to_tensor([SAMPLES[0].mask]).double()
    (slope,) = torch.autograd.grad(-(mask * _net(image)).sum(), image)
    batch = AttackBatch(["one"], image.detach(), mask)
    (attacked,) = attack_batch(Lab(), batch, [setting], seed=0, batch_size=1, meter=Meter())
    expected = torch.clamp(image + 2 / 255 * slope.sign(), 0, 1).detach()
    near = (slope.abs() > 1e-9).expand_as(expected)
    assert torch.equal(attacked.image[near], expected[near]) and near.double().mean() > 0.15


@every_group
def test_a_setting_run_in_its_group_equals_the_setting_run_alone_bitwise(group: str) -> None:
    settings = GROUPS[group]
    together = _attack64(settings, SAMPLES[:2])
    for setting in settings:
        assert torch.equal(together[setting], _attack64([setting], SAMPLES[:2])[setting]), setting


@every_group
def test_an_image_does_not_depend_on_its_batch(group: str) -> None:
    batch = _attack64(GROUPS[group], SAMPLES[:2])
    for row in range(2):
        alone = _attack64(GROUPS[group], SAMPLES[row : row + 1])
        for setting in GROUPS[group]:
            assert torch.equal(batch[setting][row], alone[setting][0]), setting


def _attack64(settings: Sequence[Setting], samples: Sequence[Sample]) -> dict[Setting, Tensor]:
    batch = AttackBatch(
        [one.sample_id for one in samples],
        to_tensor([one.image for one in samples]).double(),
        masks_to_tensor([one.mask for one in samples]).double(),
    )
    done = attack_batch(Lab(), batch, settings, seed=5, batch_size=2, meter=Meter())
    return {one.setting: one.image for one in done}


@pytest.mark.reliability("R12")
@every_group
def test_stored_bytes_depend_neither_on_company_nor_on_order_nor_on_batch_size(group: str) -> None:
    expected = _bytes(_run(GROUPS[group]))
    assert len(expected) == len(GROUPS[group]) * len(SAMPLES)
    assert _bytes(_run(GROUPS[group], SAMPLES[::-1])) == expected
    assert _bytes(_run(GROUPS[group], batch_size=1)) == expected
    alone = _bytes(_run(GROUPS[group], [SAMPLES[1]]))
    assert alone.items() <= expected.items()


@every_group
def test_the_same_seed_gives_the_same_bytes_and_another_seed_changes_what_is_random(group: str) -> None:
    first, again = _bytes(_run(GROUPS[group], seed=1)), _bytes(_run(GROUPS[group], seed=1))
    other = _bytes(_run(GROUPS[group], seed=2))
    assert first == again
    if group == "strong":  # a member from a random start may or may not have won
        return
    if group in ("pgd", "pgn", "noise", "segpgd", "cospgd", "square"):
        assert all(first[key] != other[key] for key in first)
    else:
        assert first == other


def test_settings_and_samples_draw_from_streams_of_their_own() -> None:
    samples = [SAMPLES[0], replace(SAMPLES[0], sample_id="twin")]
    done = _run(expand_attack("noise", phi=["2/255", "3/255"]), samples)
    rows = [row for found in done.values() for row in _good(found)]
    signs = [np.sign(row.image.astype(int) - row.sample.image)[_INSIDE] for row in rows]
    for one in range(4):
        assert all(0.4 < np.mean(signs[one] == signs[two]) < 0.6 for two in range(one))


def _good(rows: Sequence[AttackedRow | Failure]) -> list[AttackedRow]:
    return [row for row in rows if isinstance(row, AttackedRow)]


@pytest.mark.parametrize("phi", ["1/255", "3/510", "3/255"])
def test_noise_moves_every_value_by_phi_unless_black_or_white_is_in_the_way(phi: str) -> None:
    (setting,) = expand_attack("noise", phi=[phi])
    levels = max_levels(setting.phi)
    assert levels is not None
    for row in _good(_run([setting])[setting]):
        original = row.sample.image.astype(int)
        delta = row.image - original
        clipped = ((delta > 0) & (row.image == 255)) | ((delta < 0) & (row.image == 0)) | (delta == 0)
        assert np.all((np.abs(delta) == levels) | clipped)
        assert np.all(np.abs(delta)[(original >= levels) & (original <= 255 - levels)] == levels)
        assert row.distance.linf == levels


@pytest.mark.reliability("R13")
@every_group
def test_every_stored_image_keeps_its_bound_and_its_score_is_that_of_its_bytes(group: str) -> None:
    for setting, rows in _run(GROUPS[group]).items():
        assert [row.sample.sample_id for row in _good(rows)] == [one.sample_id for one in SAMPLES]
        for row in _good(rows):
            stored = decode_stored(row.encoded)
            delta = np.abs(stored.astype(int) - row.sample.image)
            bound = max_levels(setting.phi)
            assert np.array_equal(stored, row.image) and delta.max() == row.distance.linf
            assert bound is None or delta.max() <= bound
            (again,) = judge(Lab(), [stored], [row.sample.mask], batch_size=1, device="cpu")
            assert again.counts == row.attacked_result.counts and again.loss == row.attacked_result.loss


@every_group
def test_rows_are_the_same_where_attacked_images_do_not_wait_on_the_device(
    group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = _run(GROUPS[group])
    monkeypatch.setattr(block, "BYTES_ON_DEVICE", 0)
    for setting, rows in _run(GROUPS[group]).items():
        for row, other in zip(_good(rows), _good(waiting[setting]), strict=True):
            assert row.encoded == other.encoded
            assert row.attacked_result.counts == other.attacked_result.counts
            assert row.attacked_result.loss == other.attacked_result.loss


def test_what_is_judged_is_on_the_device_already(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[bool] = []

    def watched(localizer: Any, images: Any, masks: Any, **given: Any) -> Any:
        judged.extend(isinstance(levels, Tensor) for levels in (*images, *masks))
        return judge(localizer, images, masks, **given)

    monkeypatch.setattr(block, "judge", watched)
    _run(GROUPS["sign"])
    assert len(judged) == 2 * len(SAMPLES) * len(GROUPS["sign"]) and all(judged)


def test_noise_by_itself_is_the_attack_of_that_name() -> None:
    (setting,) = expand_attack("noise", phi=["2/255"])
    alone = noisy_images(Lab(), SAMPLES, setting, seed=0, batch_size=8, device="cpu")
    for image, row in zip(alone, _good(_run([setting])[setting]), strict=True):
        assert np.array_equal(image, row.image)


@pytest.mark.reliability("R8")
@pytest.mark.parametrize(
    "group", ["sign", "pgd", "pgn", "cw", "empty", "losses", "segpgd", "cospgd", "square"]
)
def test_a_sample_with_a_nan_gradient_is_excluded_and_the_others_are_unaffected(group: str) -> None:
    white = replace(SAMPLES[1], sample_id="white", image=np.full_like(SAMPLES[1].image, 255))

    def net(image: Tensor) -> Tensor:
        bright = image.detach().mean(dim=(1, 2, 3), keepdim=True) > 0.9
        return _net(image) * torch.where(bright, torch.nan, 1.0)

    done = _run(GROUPS[group], [SAMPLES[0], white, SAMPLES[1], SAMPLES[2]], Lab(net))
    for rows in done.values():
        assert isinstance(rows[1], Failure)
        assert (rows[1].sample_id, rows[1].reason) == ("white", "nonfinite_gradient")
        assert len(_good(rows)) == 3
    assert _bytes(done) == _bytes(_run(GROUPS[group]))


@pytest.mark.reliability("R8")
def test_a_localizer_without_a_gradient_leaves_images_unchanged_and_says_so() -> None:
    lab = Lab(lambda image: 0 * image.sum(dim=1, keepdim=True) + 1)
    pixels = SAMPLES[0].mask.size
    for group in ("sign", "cw"):
        for setting, rows in _run(GROUPS[group], lab=lab).items():
            told = summarise(_stored(rows, setting))
            assert told["unchanged"] == told["n"] == len(SAMPLES)
            assert told["psnr"] is None and told["linf"] == 0
            assert told["zero_gradient_pixels"] == pixels * len(SAMPLES)


def test_a_random_start_is_no_unchanged_image() -> None:
    lab = Lab(lambda image: 0 * image.sum(dim=1, keepdim=True))
    (setting,) = expand_attack("pgd", phi=["3/255"], params={"steps": 1})
    told = summarise(_stored(_run([setting], lab=lab)[setting], setting))
    assert told["unchanged"] == 0 and told["zero_gradient_pixels"] > 0


def _stored(rows: Sequence[AttackedRow | Failure], setting: Setting) -> list[dict[str, Any]]:
    hashes = {sample.sample_id: hash_sample(sample) for sample in SAMPLES}
    found = [attacked_row(row, setting, Lab(), "lab", "test", hashes) for row in _good(rows)]
    return [{**one, "psnr": one["psnr"] if one["linf"] else None} for one in found]


@pytest.mark.parametrize("group", ["sign", "pgd", "pgn", "cw"])
def test_pixels_the_localizer_never_reads_are_counted(group: str) -> None:
    def net(image: Tensor) -> Tensor:
        seen = torch.ones_like(image[:, :1])
        seen[..., :5] = 0
        return (image * image * seen).sum(dim=1, keepdim=True) + 1

    square = Sample("square", np.full((16, 16, 3), 128, np.uint8), SAMPLES[0].mask[:, :16])
    for rows in _run(GROUPS[group], [square], Lab(net)).values():
        assert [row.zero_gradient_pixels for row in _good(rows)] == [16 * 5]


@pytest.mark.parametrize(
    "net",
    [
        lambda image: image[:, :2],  # broadcast over channels
        lambda image: image[:, 0],  # broadcast over the batch
        lambda image: image.mean(),
        lambda image: (image[:, :1],),
    ],
)
@pytest.mark.parametrize("attack", ["fgsm", "cw"])
def test_logits_of_another_shape_are_refused_and_never_broadcast(net, attack) -> None:
    swept = {"steps": [1]} if attack == "cw" else {"phi": ["2/255"]}
    with pytest.raises(UsageError, match=r"must have shape \(\d, 1, 16, 32\)"):
        _run(expand_attack(attack, **swept), lab=Lab(net), sound=Lab())


def test_phi_run_one_after_the_other_where_a_launch_is_to_hold_one_image() -> None:
    launches = []

    def net(image: Tensor) -> Tensor:
        launches.append(len(image))
        return _net(image)

    settings = expand_attack("bim", params={"steps": 2})
    _run(settings, lab=Lab(net), sound=Lab(), batch_size=1)
    assert set(launches) == {1}
