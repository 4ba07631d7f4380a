"""IF-OSN's detector: the image at its own size, whole below 896 pixels a side and in merged tiles from there."""

from .nets.ifosn_net import IfosnNet
from .published import NetworkRecipe
from .tiles import merged_logits, merged_probability, tile_logits

RECIPE = NetworkRecipe(
    network=IfosnNet,
    answer=tile_logits,
    logits=lambda tiles, size: merged_logits(tiles, *size),
    probability=lambda tiles, size: merged_probability(tiles, *size),
    side=None,
    logit="the network's own before its sigmoid; of tiles merged as the probabilities are, without 8 bits",
    kib_per_pixel=9.2,
    thirds={
        "shallow": ("encoder_stages.0", "encoder_stages.1"),
        "middle": (
            "encoder_stages.2",
            "encoder_stages.3.11",
            "encoder_stages.3.23",
            "encoder_stages.3",
            "encoder_stages.4",
        ),
        "topmost": ("bottlenecks.0", "bottlenecks.1", "bottlenecks.2", "bottlenecks.3", "last_upsample"),
    },
)
