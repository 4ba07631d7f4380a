"""The module in two parts: what it decides, what it may write, how its stages train, and that a stopped run goes on."""

import math

import pytest
import torch
from safetensors.torch import load_file

from afbench.defences.ansm.checkpoint import load_ansm
from afbench.defences.ansm.find_write import Finder, FinderOutput, FindWrite, Writer
from afbench.defences.ansm.noise_variation import attack_originals
from afbench.defences.ansm.parts import build_module
from afbench.defences.ansm.presets import preset
from afbench.defences.ansm.settings import replace_settings
from afbench.defences.ansm.stage_loss import stage_loss
from afbench.defences.ansm.train import batch_rules
from afbench.defences.training.batches import training_batches
from afbench.defences.training.pairs import Batch, Share
from afbench.defences.training.stage import Moment
from afbench.localizers.checkpoint_files import state_sha256

FIND_WRITE = {"recipe": "find-write", "steps": (4, 3), "bound": 0.25, "originals": 0.25, "noisy": 0.25}


@pytest.fixture
def module():
    torch.manual_seed(0)
    module = FindWrite(0.25).eval()
    torch.nn.init.normal_(module.writer.head.weight, std=5.0)  # it starts at 0
    return module


def picture(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def answer(module, forged, attacked):
    """Make the finder answer the same for every pixel and every image."""
    with torch.no_grad():
        module.finder.network.head.weight.zero_()
        module.finder.network.head.bias.fill_(forged)
        module.finder.attacked.weight.zero_()
        module.finder.attacked.bias.fill_(attacked)


@pytest.mark.parametrize(("forged", "attacked", "writes"), [(3, 3, True), (-3, 3, False), (3, -3, False)])
def test_it_writes_only_where_something_is_found_in_an_attacked_image(module, forged, attacked, writes):
    answer(module, forged, attacked)
    image = picture(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(module(image), image) is not writes


def test_the_noise_stays_within_its_bound(module):
    answer(module, 3.0, 3.0)
    image = 0.5 * torch.ones(1, 3, 64, 64)
    with torch.no_grad():
        noise = module(image) - image
    assert 0.2 < noise.abs().max() <= 0.25 + 1e-6


@pytest.mark.parametrize("size", [(32, 32), (45, 70), (7, 3), (1, 1), (128, 33)])
def test_any_size_comes_back_as_it_went_in(module, size):
    answer(module, 3.0, 3.0)
    image = picture(1, 3, *size)
    with torch.no_grad():
        purified = module(image)
    assert purified.shape == image.shape and purified.min() >= 0 and purified.max() <= 1


def test_with_and_without_gradients_the_same_images_come_back(module):
    answer(module, 3.0, 0.0)
    torch.nn.init.normal_(module.finder.attacked.weight)
    image = picture(8, 3, 40, 24)
    with torch.no_grad():  # half of the images seem attacked
        module.finder.attacked.bias -= module.finder(image).attacked.median()
    purified = module(image).detach()
    with torch.no_grad():
        assert torch.allclose(module(image), purified, atol=1e-6)
    changed = (purified != image).flatten(1).any(dim=1)
    assert changed.any() and not changed.all()


def test_a_finder_looks_as_its_settings_say_and_an_older_one_at_turned_copies():
    assert build_module({**FIND_WRITE, "attack": "fgsm-3"}).turned
    assert build_module({**FIND_WRITE, "turned": True}).turned
    assert not build_module({**FIND_WRITE, "turned": False}).turned
    assert not load_ansm(None, localizer="reference").module.turned


def test_one_look_finds_what_the_finder_says(module):
    image = picture(2, 3, 20, 70)
    with torch.no_grad():
        assert torch.equal(module.find(image), torch.sigmoid(module.finder(image).forged))


def test_the_finder_looks_at_two_turned_copies_and_puts_what_it_sees_back_in_place(module):
    module.turned = True
    copies = []

    def brightness(image):
        copies.append(image)
        return FinderOutput(image.mean(dim=1, keepdim=True), image.mean(dim=(1, 2, 3)))

    module.finder.forward = brightness
    image = picture(1, 3, 20, 70)
    found = module.find(image)
    noise = module.noise.repeat(1, 1, 2)[:, :20, :70]
    assert torch.allclose(found, torch.sigmoid((image + noise).mean(dim=1, keepdim=True)), atol=1e-6)
    assert [copy.shape[-2:] for copy in copies] == [(20, 70), (70, 20)]
    assert torch.equal(copies[0], (image + noise).flip(-2, -1)) and torch.equal(copies[1], copies[0].mT)
    assert 1.9 / 255 < module.noise.std() < 2.1 / 255


@pytest.mark.parametrize("turned", [False, True])
def test_in_an_image_that_is_not_attacked_no_forgery_is_looked_for(module, turned):
    answer(module, 3.0, -3.0)
    module.turned = turned
    module._find = module._find_turned = None  # would fail
    image = picture(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(module(image), image)


def test_an_attack_sees_through_both_decisions(module):
    answer(module, 0.3, 0.3)
    image = picture(1, 3, 32, 32)
    weights = [module.finder.network.head.bias, module.finder.attacked.bias]
    gradients = torch.autograd.grad(module(image).sum(), weights)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_the_writer_sees_a_mask_and_the_image_only(module):
    image, mask = picture(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    with torch.no_grad():
        assert not torch.equal(module.writer(image, mask), module.writer(image, 1 - mask))
    assert sum(weight.numel() for weight in Finder().parameters()) <= 1e6
    assert sum(weight.numel() for weight in Writer().parameters()) < 1e5


def test_the_finders_images_are_originals_noisy_or_attacked_in_their_shares(pairs, tiny):
    settings = tiny(**FIND_WRITE | {"steps": (400, 1), "augment": ("flip",)})
    pairs.noise.fill_(0.5)  # attacked is never darker, which random noise is
    kinds = views_seen(pairs, settings, range(100))
    assert sum(kinds.values()) == 800
    for kind, share in (("original", 0.25), ("noisy", 0.25), ("attacked", 0.5)):
        assert abs(kinds[kind] / 800 - share) < 4 * math.sqrt(share * (1 - share) / 800), kinds


def test_the_finders_first_steps_see_no_attacks_where_it_is_asked_for(pairs, tiny):
    settings = tiny(**FIND_WRITE | {"steps": (200, 1), "augment": ("flip",)}, attacks_from=0.5)
    pairs.noise.fill_(0.5)
    first_half, second_half = (views_seen(pairs, settings, epochs) for epochs in (range(25), range(25, 50)))
    assert first_half["attacked"] == 0 and min(first_half["original"], first_half["noisy"]) > 60
    assert second_half["attacked"] > 60
    finder, writer = batch_rules(settings, 0), batch_rules(settings, 1)
    assert not finder.shows_attacks_at(8, 99) and finder.shows_attacks_at(8, 100)
    assert writer.shows_attacks_at(8, 0)


def test_only_images_that_are_shown_attacked_are_attacked(pairs, tiny):
    settings = tiny(**FIND_WRITE | {"augment": ("flip",)})
    batch = Batch(torch.full((64, 3, 32, 32), 0.25), torch.zeros(64, 3, 32, 32), torch.zeros(64, 1, 32, 32))
    counts = []

    def brighten(images, truth, draws):
        counts.append(len(images))
        return images + 0.5

    seen = attack_originals(batch, brighten, settings, "find", Moment(0, 0, 0)).attacked
    assert counts == [int((seen > 0.7).flatten(1).all(dim=1).sum())] and 0 < counts[0] < 64
    attack_originals(batch, brighten, settings, "find", Moment(0, 0, 0, shows_attacks=False))
    assert len(counts) == 1
    attack_originals(batch, brighten, settings, "write", Moment(1, 0, 0))
    assert counts[1:] == [64]


def views_seen(pairs, settings, epochs):
    kinds = {"original": 0, "noisy": 0, "attacked": 0}
    for epoch in epochs:
        batches = training_batches(
            pairs, range(8), batch_rules(settings, 0), epoch=epoch, share=Share(), first=0, workers=0
        )
        for batch in batches:
            for original, attacked in zip(batch.original, batch.attacked, strict=True):
                added = attacked - original
                kinds["original" if not added.any() else "noisy" if added.min() < 0 else "attacked"] += 1
    return kinds


def test_the_finder_is_told_the_truth_and_whether_anything_was_added(pairs, tiny, localizer):
    settings = tiny(**FIND_WRITE)
    (batch,) = list(
        training_batches(pairs, [0, 1], batch_rules(settings, 0), epoch=0, share=Share(), first=0, workers=0)
    )[:1]
    batch = batch._replace(attacked=torch.stack([batch.original[0], batch.original[1] + 0.01]))

    class Perfect:
        def __call__(self, image):
            from afbench.defences.ansm.find_write import FinderOutput

            return FinderOutput(40 * (2 * batch.mask - 1), torch.tensor([-40.0, 40.0]))

    assert stage_loss("find", Perfect(), localizer, batch, settings).max() < 1e-3
    wrong = batch._replace(mask=1 - batch.mask)
    assert stage_loss("find", Perfect(), localizer, wrong, settings).min() > 1


def test_each_stage_changes_its_own_part_and_nothing_else(run, tmp_path):
    run(tmp_path / "out", **FIND_WRITE, average=0.0)
    states = {}
    for steps in ((4, 1), (4, 3)):
        folder = tmp_path / f"{steps[1]}"
        run(folder, **FIND_WRITE | {"steps": steps}, average=0.0)
        states[steps] = load_file(folder / "last.safetensors")
    first, second = states.values()
    assert all(torch.equal(first[name], second[name]) for name in first if name.startswith("finder."))
    assert any(not torch.equal(first[name], second[name]) for name in first if name.startswith("writer."))


def test_a_stopped_run_goes_on_to_the_same_bits_in_both_stages(run, tmp_path):
    from tests.defences.ansm.test_train import Stopped, same, stopping_after

    given = {**FIND_WRITE, "save_every": 1, "schedule": "cosine", "warmup": 2}
    card = run(tmp_path / "whole", **given)
    assert card["stage"] == "write"
    for writes in (1, 2, 2, 1):
        with pytest.raises(Stopped):
            run(tmp_path / "parts", commit=stopping_after(writes), **given)
    run(tmp_path / "parts", **given)
    for name in ("best", "last"):
        assert same(tmp_path / "whole" / f"{name}.safetensors", tmp_path / "parts" / f"{name}.safetensors")


def test_steps_end_a_stage_in_the_middle_of_a_pass(tiny):
    settings = tiny(**FIND_WRITE | {"steps": (7, 3)})  # 6 images in batches of 2: 3 steps a pass
    assert [batch_rules(settings, 0).steps_of_epoch(6, epoch) for epoch in range(3)] == [3, 3, 1]


def test_the_presets_settings_are_checked():
    settings = preset("short", "reference", "find-write")
    assert settings.recipe == "find-write" and [stage.loss for stage in settings.stages] == ["find", "write"]
    with pytest.raises(Exception, match="noisy"):
        replace_settings(settings, {"originals": 0.8, "noisy": 0.8})


def test_a_trained_module_purifies_as_it_was_judged_in_training(run, tmp_path):
    run(tmp_path / "out", **FIND_WRITE)
    network = load_ansm(tmp_path / "out", localizer="tiny")
    plain = FindWrite(0.25).eval()
    plain.load_state_dict(load_file(tmp_path / "out" / "best.safetensors"))
    answers = [module.finder(picture(2, 3, 40, 48)) for module in (plain, network.module)]
    for first, second in zip(*answers, strict=True):
        assert torch.allclose(first, second, atol=1e-4)
    assert network.decides and network.sha256 == state_sha256(plain)
    assert network.params == {"features": "none", "stage1": "find", "stage2": "write"}
    (gradient,) = torch.autograd.grad(network(image := picture(1, 3, 32, 32).requires_grad_()).sum(), image)
    assert gradient.abs().sum() > 0


def test_three_quarters_of_the_finders_steps_see_smaller_crops_and_all_of_the_writers_whole_ones(pairs, tiny):
    settings = tiny(**FIND_WRITE | {"steps": (8, 3)}, side=40, first_side=32)
    sides = {
        stage: [
            batch.mask.shape[-1]
            for epoch in range(3)
            for batch in training_batches(
                pairs, range(6), batch_rules(settings, stage), epoch=epoch, share=Share(), first=0, workers=0
            )
        ]
        for stage in (0, 1)
    }
    assert sides == {0: 6 * [32] + 2 * [40], 1: 3 * [40]}
