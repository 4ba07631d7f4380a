"""Batches cut on the device that trains: the parts of images they are cut from, the same every time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from afbench.defences.training.batch_cuts import GRID
from afbench.defences.training.batch_rules import BatchRules
from afbench.defences.training.batches import training_batches, validation_batches
from afbench.defences.training.pairs import Batch, Share

SIDE, CROP = 48, 32


class Held:
    """Pairs whose every pixel is another number, so that a cut says where it was made."""

    def __init__(self, count: int, device: str = "cpu") -> None:
        self.groups = [str(number) for number in range(count)]
        pixels = torch.arange(count * 3 * SIDE * SIDE, device=device)
        self.original = pixels.view(count, 3, SIDE, SIDE).double()

    def __len__(self) -> int:
        return len(self.original)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        raise AssertionError("held pairs are asked for whole batches")

    def gather(self, indices: Sequence[int]) -> Batch:
        original = self.original[list(indices)]
        return Batch(original, original + 0.5, original[:, :1] + 0.25)


def rules(**changes: object) -> BatchRules:
    options = {"seed": 3, "stage": 0, "batch": 4, "epochs": 2, "fit": "crop", "side": CROP}
    return BatchRules(**{**options, **changes})  # type: ignore[arg-type]


def batches(
    epoch: int = 0,
    first: int = 0,
    share: Share = Share(),  # noqa: B008
    pairs: Held = Held(12),  # noqa: B008
    **changes: object,
) -> list[Batch]:
    return list(
        training_batches(pairs, range(12), rules(**changes), epoch=epoch, share=share, first=first, workers=0)
    )


def test_a_crop_is_a_square_of_one_image_on_the_grid_of_jpeg() -> None:
    seen, corners = [], set()
    for batch in batches():
        for original, attacked, mask in zip(*batch, strict=True):
            corner = int(original[0, 0, 0])
            image, place = divmod(corner, 3 * SIDE * SIDE)
            row, column = divmod(place, SIDE)
            assert row % GRID == column % GRID == 0
            whole = Held(12).original[image, :, row : row + CROP, column : column + CROP]
            assert torch.equal(original, whole)
            assert torch.equal(attacked, whole + 0.5) and torch.equal(mask, whole[:1] + 0.25)
            seen.append(image)
            corners.add((row, column))
    assert sorted(seen) == list(range(12)) and len(corners) > 3


def test_mirrored_and_transposed_squares_keep_pixels_and_masks_together() -> None:
    turned = 0
    for plain, flipped in zip(batches(), batches(flip=True), strict=True):
        for index in range(len(plain.original)):
            assert torch.equal(flipped.original[index] + 0.5, flipped.attacked[index])
            assert torch.equal(flipped.original[index, :1] + 0.25, flipped.mask[index])
            assert torch.equal(plain.original[index].unique(), flipped.original[index].unique())
            turned += not torch.equal(plain.original[index], flipped.original[index])
    assert turned >= 6  # one in eight is left as it is


def test_a_batch_is_the_same_whenever_it_is_asked_for_and_another_in_the_next_epoch() -> None:
    whole, rest, other = batches(flip=True), batches(flip=True, first=1), batches(flip=True, epoch=1)
    for expected, batch in zip(whole[1:], rest, strict=True):
        assert all(torch.equal(*images) for images in zip(expected, batch, strict=True))
    assert not torch.equal(whole[0].original, other[0].original)


def test_several_processes_share_every_batch() -> None:
    shares = [batches(share=Share(rank, 2)) for rank in range(2)]
    numbers = [
        [int(image[0, 0, 0]) // (3 * SIDE * SIDE) for image in batch.original]
        for share in shares
        for batch in share
    ]
    assert sorted(np.concatenate(numbers)) == list(range(12)) and {len(part) for part in numbers} == {2}


def test_noise_is_varied_before_an_image_is_turned() -> None:
    def brighten(batch: Batch, rng: np.random.Generator, shows_attacks: bool) -> Batch:
        return batch._replace(attacked=batch.original + (1 if shows_attacks else 0))

    first, second, third = batches(vary=brighten, attacks_from=0.5, flip=True, epochs=1)
    assert torch.equal(first.attacked, first.original) and torch.equal(second.attacked, second.original)
    assert torch.equal(third.attacked, third.original + 1)


def test_validation_takes_the_middle() -> None:
    (batch,) = validation_batches(Held(3), [2], rules(), share=Share(), workers=0)
    assert torch.equal(batch.original[0], Held(3).original[2, :, 8:40, 8:40])


@pytest.mark.parametrize("changes", [{}, {"side": 64}, {"fit": "resize"}, {"fit": "resize-antialiased"}])
def test_validation_cuts_whole_batches_as_it_cuts_single_images(changes: dict[str, object]) -> None:
    class Single:
        """The same pairs, which are read one by one."""

        groups = Held(3).groups

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            batch = Held(3).gather([index])
            return {"original": batch.original[0], "adversarial": batch.attacked[0], "mask": batch.mask[0]}

    together, apart = (
        list(validation_batches(pairs, range(3), rules(**changes), share=Share(), workers=0))
        for pairs in (Held(3), Single())
    )
    for expected, batch in zip(apart, together, strict=True):
        assert all(torch.equal(*images) for images in zip(expected, batch, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize(
    "changes",
    [{"flip": True}, {"flip": True, "side": 64}, {"fit": "resize"}, {"fit": "resize-antialiased"}],
)
def test_a_gpu_cuts_the_batches_of_a_cpu(changes: dict[str, object]) -> None:
    for expected, batch in zip(batches(**changes), batches(pairs=Held(12, "cuda"), **changes), strict=True):
        for expected_images, images in zip(expected, batch, strict=True):
            assert images.is_cuda
            torch.testing.assert_close(images.cpu(), expected_images)
