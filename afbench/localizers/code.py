"""CoDE: resized to 512x512 without antialiasing; a map after three clipped steps, forged above 0.2."""

from .nets.code_net import CodeNet
from .published import NetworkRecipe

THRESHOLD = 0.2
SHARPNESS = 4.0
"""k in z = k (s - 0.2), which stands for the logit that CoDE does not have. s is the sum before the last clip, from -0.5
to 1.5, so z lies between -2.8 and 5.2, where a cross-entropy still has a gradient."""

RECIPE = NetworkRecipe(
    network=CodeNet,
    answer=lambda network, image: network.running_sum(image),  # type: ignore[operator]
    logits=lambda total, size: SHARPNESS * (total - THRESHOLD),
    probability=lambda total, size: total.clamp(0, 1),  # exactly the published map
    side=512,
    multiple=32,
    threshold=THRESHOLD,
    logit=f"{SHARPNESS:g} (s - {THRESHOLD:g}), s the last sum before its clip; clips pass gradients straight through",
    kib_per_pixel=9.4,
    thirds={
        "shallow": ("conv_stem", "down1", "down2"),
        "middle": ("down3", "down4"),
        "topmost": ("p_merge1", "p_merge2", "p_merge3", "p_merge4", "mu"),
    },
)
