"""What the attack ``strong`` is made of and what it costs; the engine runs it. No torch here."""

from __future__ import annotations

from typing import NamedTuple


class EnsembleRun(NamedTuple):
    """One run of APGD inside ``strong``."""

    name: str
    loss: str
    random_start: bool


RUNS = (
    EnsembleRun("soft-f1", "soft-f1", False),
    EnsembleRun("js", "js", False),
    EnsembleRun("masked-ce", "masked-ce", False),
    EnsembleRun("cw", "hinge", False),
    EnsembleRun("soft-f1-random", "soft-f1", True),
    EnsembleRun("js-random", "js", True),
    EnsembleRun("masked-ce-random", "masked-ce", True),
)
"""C&W's objective with a margin, which is ``hinge``, inside the ball; the others from the image and one random start."""
MEMBERS = ("original", *(run.name for run in RUNS), "grid")
"""What may have made an image, in the order of the attack's numbers: at first what it started from, at last the pass on
the 8-bit grid."""
STEPS = 15
"""Gradients of each run and of the last pass."""
GRADIENTS = STEPS * (len(RUNS) + 1)
QUERIES = 2 + 2 * len(RUNS) + 1
"""Forward passes beside the gradients: scale and score of the original, last loss and score of each run, the last score on the
grid. Behind a defence the other scores on the grid take passes of their own, too."""
LOGIT_SCALE = 2.0
"""The losses see logits of this mean size on the original, so that a localizer's scale changes nothing."""
ENSEMBLE = "ensemble"
RECIPE = f"{STEPS} x ({', '.join(run.name for run in RUNS)}, grid), logits of mean size {LOGIT_SCALE:g}"
"""What is recorded as ``ensemble``: a later version with other members makes other configs."""
