"""MVSS-Net: BGR, resized to 512x512 without antialiasing; the mask does not need the edge branch."""

from .nets.mvss_net import MvssNet
from .published import NetworkRecipe, as_is, call, sigmoid

RECIPE = NetworkRecipe(
    network=MvssNet,
    answer=call,
    logits=as_is,
    probability=sigmoid,
    side=512,
    kib_per_pixel=4.6,
    thirds={
        "shallow": (
            "model.layer1",
            "model.layer2",
            "noise_extractor.model.layer1",
            "noise_extractor.model.layer2",
        ),
        "middle": (
            "model.layer3.2",
            "model.layer3",
            "noise_extractor.model.layer3.2",
            "noise_extractor.model.layer3",
        ),
        "topmost": ("head.conv_p1", "head.conv_p2", "head.conv_c1", "head.conv_c2"),
    },
    settle=lambda network: network.freeze_bayar(),  # type: ignore[operator]
)
