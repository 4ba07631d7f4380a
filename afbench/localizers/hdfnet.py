"""HDF-Net: resized to 256x256 with antialiasing, the only size it was trained on.

Differs: the release resizes 8-bit pixels outside the graph; one differentiable resize serves attacks and scores here.
"""

from .nets.hdfnet_net import HdfNet
from .published import NetworkRecipe, as_is, call, sigmoid

RECIPE = NetworkRecipe(
    network=HdfNet,
    answer=call,
    logits=as_is,
    probability=sigmoid,
    side=256,
    antialias=True,
    kib_per_pixel=16.0,
    thirds={
        "shallow": ("bkbone.multi_scale", "bkbone.layer1"),
        "middle": ("bkbone.layer3", "bkbone.layer4", "fuse1_2"),
        "topmost": ("fla", "fuse12", "fuse23"),
    },
)
