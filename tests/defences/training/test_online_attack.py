"""Attacks made while a training runs, on turned images."""

import torch

from afbench.workflows.training.online_attack import in_any_orientation


def draw(seed):
    return torch.Generator().manual_seed(seed)


def brighten_the_first_row(image, truth, draws):
    """An attack that tells rows from columns and their ends from each other."""
    attacked = image.clone()
    attacked[..., 0, 0] += truth[..., 0, 0]
    attacked[..., 0, 1:] += 2 * truth[..., 0, 1:]
    return attacked


def test_a_turned_attack_has_its_noise_where_the_turned_image_got_it():
    image, truth = torch.zeros(2, 3, 4, 4), torch.ones(2, 1, 4, 4)
    attack = in_any_orientation(brighten_the_first_row)
    noises = {tuple(attack(image, truth, draw(seed))[1, 2].flatten().tolist()) for seed in range(60)}
    upright = brighten_the_first_row(image, truth, None)[1, 2]
    turned = [upright.rot90(turns) for turns in range(4)]
    turned += [noise.mT for noise in turned]
    assert noises == {tuple(noise.flatten().tolist()) for noise in turned} and len(noises) == 8


def test_a_turned_attack_sees_image_and_truth_turned_alike():
    image = torch.rand(2, 3, 4, 6, generator=draw(0))

    def keep(images, truth, draws):
        assert torch.equal(truth, images[:, :1])
        return images

    for seed in range(20):
        attacked = in_any_orientation(keep)(image, image[:, :1], draw(seed))
        assert torch.equal(attacked, image)
