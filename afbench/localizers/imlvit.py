"""IML-ViT: laid at the top left of a black square of 1024x1024, never resized; what lies beyond is cut.

The square is black before the network's normalisation: with a grey one it gives other maps.
"""

from .nets.imlvit_net import SMALLEST, STRIDE, ImlvitNet
from .published import NetworkRecipe, as_is, call, sigmoid

RECIPE = NetworkRecipe(
    network=ImlvitNet,
    answer=call,
    logits=as_is,
    probability=sigmoid,
    side=None,
    canvas=1024,
    multiple=STRIDE,
    least_side=SMALLEST,
    kib_per_pixel=4.8,
    thirds={
        "shallow": ("encoder_net.blocks.1", "encoder_net.blocks.3"),
        "middle": ("encoder_net.blocks.5", "encoder_net.blocks.7"),
        "topmost": (
            "encoder_net.blocks.9",
            "encoder_net.blocks.11",
            "featurePyramid_net.simfp_2",
            "featurePyramid_net.simfp_3",
            "featurePyramid_net.simfp_4",
            "featurePyramid_net.simfp_5",
        ),
    },
)
