"""Mesorch: resized to 512x512 without antialiasing, RGB."""

from .nets.mesorch_net import STRIDE, MesorchNet
from .published import NetworkRecipe, as_is, call, sigmoid

RECIPE = NetworkRecipe(
    network=MesorchNet,
    answer=call,
    logits=as_is,
    probability=sigmoid,
    side=512,
    multiple=STRIDE,
    kib_per_pixel=8.8,
    thirds={
        "shallow": ("convnext.stages.0", "convnext.stages.1", "segformer.block1.2", "segformer.block2.3"),
        "middle": (
            "convnext.stages.2.blocks.4",
            "convnext.stages.2",
            "segformer.block3.8",
            "segformer.block3.17",
        ),
        "topmost": (
            "convnext.stages.3",
            "segformer.block4.2",
            "upsample.upsamplec3",
            "upsample.upsamplec4",
            "upsample.upsamples3",
            "upsample.upsamples4",
            "gate.conv2",
        ),
    },
)
