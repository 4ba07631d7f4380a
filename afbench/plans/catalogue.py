"""List what afbench takes of torchattacks' attacks, and what it refuses and why. Needs neither torch nor torchattacks."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from afbench.core import Setting, UsageError

from .attack_spec import Attack, Default

FAMILY, PREFIX = "torchattacks", "ta_"
VERSION = "3.5.1"
INSTALL = f"pip install torchvision scipy && pip install --no-deps torchattacks=={VERSION}"
CORNER = "phi*sqrt(3*H*W)"
"""An L2 radius: that of the smallest L2 ball which holds the whole L-inf ball of radius phi."""

_STEPS: dict[str, Default] = {"steps": 10, "alpha_over_phi": 0.25}
_DIVERSE: dict[str, Default] = {
    "decay": 0.0,
    "resize_rate": 0.9,
    "diversity_prob": 0.5,
    "random_start": False,
}


def _entry(name: str, summary: str, source: str, **defaults: Default) -> Attack:
    key = PREFIX + name.lower()
    alpha = ("alpha",) if {"alpha_over_phi", "alpha_over_eps"} & defaults.keys() else ()
    return Attack(
        key, "phi", key, summary, source, {**defaults, FAMILY: VERSION}, alpha, f"{FAMILY}:{name}", (FAMILY,)
    )


CATALOGUE = (
    _entry("FGSM", "as fgsm", "Goodfellow et al. 2014, arXiv 1412.6572"),
    _entry("BIM", "as bim", "Kurakin et al. 2016, arXiv 1607.02533", **_STEPS),
    _entry("RFGSM", "as bim from random signs", "Tramer et al. 2018, arXiv 1705.07204", **_STEPS),
    _entry("PGD", "as pgd", "Madry et al. 2018, arXiv 1706.06083", **_STEPS, random_start=True),
    _entry(
        "EOTPGD",
        "as pgd, gradients averaged over passes",
        "Zimmermann 2019, arXiv 1907.00895",
        **_STEPS,
        eot_iter=2,
        random_start=True,
    ),
    _entry(
        "FFGSM",
        "one signed step from a random start",
        "Wong et al. 2020, arXiv 2001.03994",
        alpha_over_phi=1.25,
    ),
    _entry(
        "TPGD",
        "away from the localizer's own prediction, whatever the mask",
        "Zhang et al. 2019, arXiv 1901.08573",
        **_STEPS,
    ),
    _entry(
        "MIFGSM",
        "as mifgsm, with steps of phi/4",
        "Dong et al. 2018, arXiv 1710.06081",
        **_STEPS,
        decay=1.0,
    ),
    _entry(
        "NIFGSM",
        "as mifgsm, gradients taken ahead",
        "Lin et al. 2020, arXiv 1908.06281",
        **_STEPS,
        decay=1.0,
    ),
    _entry(
        "SINIFGSM",
        "as NIFGSM, over darker copies",
        "Lin et al. 2020, arXiv 1908.06281",
        **_STEPS,
        decay=1.0,
        m=5,
    ),
    _entry(
        "VMIFGSM",
        "as MIFGSM, gradients tuned by their variance nearby",
        "Wang & He 2021, arXiv 2103.15571",
        **_STEPS,
        decay=1.0,
        N=5,
        beta=1.5,
    ),
    _entry(
        "VNIFGSM",
        "as NIFGSM, gradients tuned by their variance nearby",
        "Wang & He 2021, arXiv 2103.15571",
        **_STEPS,
        decay=1.0,
        N=5,
        beta=1.5,
    ),
    _entry(
        "DIFGSM",
        "as MIFGSM, on randomly shrunken copies",
        "Xie et al. 2019, arXiv 1803.06978",
        **_STEPS,
        **_DIVERSE,
    ),
    _entry(
        "TIFGSM",
        "as DIFGSM, gradients smoothed",
        "Dong et al. 2019, arXiv 1904.02884",
        **_STEPS,
        **_DIVERSE,
        kernel_name="gaussian",
        len_kernel=15,
        nsig=3,
    ),
    _entry(
        "PIFGSM",
        "steps of phi, the excess handed to neighbouring pixels",
        "Gao et al. 2020, arXiv 2007.06765",
        num_iter_set=10,
        amplification=10.0,
    ),
    _entry(
        "UPGD",
        "pgd with every extra of the library",
        "torchattacks, Kim 2020, arXiv 2010.01950",
        **_STEPS,
        decay=1.0,
        eot_iter=1,
        random_start=False,
    ),
    _entry(
        "PGDL2",
        f"gradient steps in an L2 ball of radius {CORNER}, clipped to the phi ball",
        "Madry et al. 2018, arXiv 1706.06083",
        steps=10,
        alpha_over_eps=0.2,
        eps=CORNER,
        random_start=True,
    ),
)
CLASSES = {attack.name: attack.asked_as.removeprefix(f"{FAMILY}:") for attack in CATALOGUE}
"""From our names to the library's."""

_LABEL = "it takes one label per image, and fails on a map of labels"
_LEAST = f"{_LABEL}; use --attack cw, which also looks for the least change"
_FEW = f"{_LABEL}; use --attack square, which also asks for losses alone"
_ONE_HOT = "it spreads labels over the width of the map instead of two classes, and fails"
_MAPS = "it indexes maps with maps: gigabytes for one image, then it fails; use --attack apgd"
UNUSABLE = {
    "APGD": _MAPS,
    "APGDT": _MAPS,
    "AutoAttack": "it consists of APGD, FAB and Square, which fail on maps; use --attack strong",
    "CW": f"{_ONE_HOT}; use --attack cw",
    "DeepFool": _LEAST,
    "EADEN": f"{_ONE_HOT}; use --attack cw",
    "EADL1": f"{_ONE_HOT}; use --attack cw",
    "FAB": _LEAST,
    "GN": "it is noise that knows no phi; use --attack noise",
    "JSMA": _FEW,
    "Jitter": f"{_ONE_HOT}; use --attack pgd",
    "LGV": "it trains copies of the network on data of its own",
    "MultiAttack": "it is made of other attacks; name one of them",
    "OnePixel": _FEW,
    "PGDRS": "it averages probabilities over the width of the map, and fails; use --attack pgd",
    "PGDRSL2": "it averages probabilities over the width of the map, and fails; use --attack pgd",
    "PGN": f"torchattacks {VERSION} does not hold it; use --attack pgn",
    "PIFGSMPP": "its Gaussian kernel runs over colours instead of rows, so each colour is smoothed in another way; use torchattacks:PIFGSM",
    "Pixle": _FEW,
    "SPSA": "it sums losses over samples and pixels at once: gigabytes for one image, then it fails; use --attack square",
    "Square": f"{_LABEL}; use --attack square",
    "SparseFool": _LEAST,
    "VANILA": "it returns the image as it is; that is config clean",
}
"""Why attacks of torchattacks 3.5.1 do not work on a localizer, which it sees as two classes per pixel; all were tried."""


def require_catalogue(settings: Iterable[Setting]) -> None:
    """Refuse settings of the catalogue where the library is not installed.

    Raises:
        UsageError: with how to install it.
    """
    name = next((setting.attack for setting in settings if setting.attack in CLASSES), None)
    if name is None:
        return
    try:
        installed_version = version(FAMILY)
    except PackageNotFoundError:
        installed_version = ""
    if installed_version != VERSION:
        state = (
            f"{FAMILY} {installed_version} is installed"
            if installed_version
            else f"{FAMILY} is not installed"
        )
        raise UsageError(
            f"attack '{FAMILY}:{CLASSES[name]}' needs {FAMILY} {VERSION}, and {state}: {INSTALL}"
        )
