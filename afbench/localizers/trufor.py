"""TruFor: the image as it is, at any size, RGB. Its confidence map only serves its score of a whole image."""

from torch import Tensor, nn

from .nets.trufor_net import SMALLEST, TruForNet
from .published import NetworkRecipe, as_is, call, sigmoid


def _image_score(network: nn.Module, image: Tensor) -> Tensor:
    return network.image_logit(image).sigmoid()  # type: ignore[no-any-return, operator]


RECIPE = NetworkRecipe(
    network=TruForNet,
    answer=call,
    logits=as_is,
    probability=sigmoid,
    side=None,
    least_side=SMALLEST,
    logit="the difference of the network's two",
    image_score=_image_score,
    kib_per_pixel=12.4,
    thirds={
        "shallow": ("dncnn", "backbone.FRMs.0"),
        "middle": ("backbone.FRMs.1", "backbone.block3.2", "backbone.extra_block3.2"),
        "topmost": ("backbone.FRMs.3", "backbone.FFMs.3", "decode_head.linear_fuse"),
    },
)
