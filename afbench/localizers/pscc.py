"""PSCC-Net: the image at its own size, a mask on a fixed grid of 256x256, resized to the image with aligned corners.

Differs: attacks raise the finest mask's own logit, resized; the logit of the resized probability would have no gradient
where the sigmoid saturates.
"""

from torch.nn import functional as F

from .nets.pscc_net import PsccNet, published_probability
from .published import NetworkRecipe, call

RECIPE = NetworkRecipe(
    network=PsccNet,
    answer=call,
    logits=lambda logit, size: F.interpolate(logit, size, mode="bilinear", align_corners=True),
    probability=lambda logit, size: published_probability(logit, *size),
    side=None,
    logit="the finest mask's own, resized",
    kib_per_pixel=12.2,
    thirds={
        "shallow": ("HRNet.conv2", "HRNet.layer1", "HRNet.stage2"),
        "middle": ("HRNet.stage3",),
        "topmost": (
            "HRNet.stage4",
            "NLCDetection.getmask4",
            "NLCDetection.getmask3",
            "NLCDetection.getmask2",
            "NLCDetection.getmask1",
        ),
    },
)
