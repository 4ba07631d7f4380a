"""What is taken of the torchattacks catalogue, and what is refused and why. Needs neither torch nor torchattacks."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from afbench.core import Setting, UsageError

from .entry import Attack, Default

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
    return Attack(key, "phi", key, summary, source, {**defaults, FAMILY: VERSION}, alpha, f"{FAMILY}:{name}")


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
_ONE_HOT = "it spreads labels over the width of the map instead of two classes, and fails"
REFUSED = {
    "APGD": "it indexes maps with maps: gigabytes for one image, then it fails",
    "APGDT": "it indexes maps with maps: gigabytes for one image, then it fails",
    "AutoAttack": "it consists of APGD, FAB and Square, which fail on maps",
    "CW": f"{_ONE_HOT}; use --attack cw",
    "DeepFool": _LABEL,
    "EADEN": _ONE_HOT,
    "EADL1": _ONE_HOT,
    "FAB": _LABEL,
    "GN": "it is noise that knows no phi; use --attack noise",
    "JSMA": _LABEL,
    "Jitter": _ONE_HOT,
    "LGV": "it trains copies of the network on data of its own",
    "MultiAttack": "it is made of other attacks; name one of them",
    "OnePixel": _LABEL,
    "PGDRS": "it averages probabilities over the width of the map, and fails",
    "PGDRSL2": "it averages probabilities over the width of the map, and fails",
    "PGN": f"torchattacks {VERSION} does not hold it; use --attack pgn",
    "PIFGSMPP": "its Gaussian kernel runs over colours instead of rows, so each colour is smoothed in another way",
    "Pixle": _LABEL,
    "SPSA": "it sums losses over samples and pixels at once: gigabytes for one image, then it fails",
    "Square": f"{_LABEL}; use --attack square",
    "SparseFool": _LABEL,
    "VANILA": "it returns the image as it is; that is config clean",
}
"""Of torchattacks 3.5.1 on a localizer shown as two classes per pixel; all tried."""


def parse_attack(text: str) -> tuple[str, dict[str, str]]:
    """Read ``NAME`` or ``torchattacks:NAME[:param=value...]`` into our name and the parameters given.

    Raises:
        UsageError: for an attack of the catalogue that is unknown or known to be wrong here, with why, or a parameter that
            is not ``name=value``. Names outside the catalogue pass as they are.
    """
    family, *rest = text.split(":")
    if family != FAMILY:
        return text, {}
    supported = {name.lower(): key for key, name in CLASSES.items()}
    known = ", ".join(sorted(CLASSES.values()))
    if not rest or not rest[0]:
        raise UsageError(f"attack '{text}' lacks a name, as in torchattacks:TPGD; known names: {known}")
    wanted, *params = rest
    for name, why in REFUSED.items():
        if name.lower() == wanted.lower():
            raise UsageError(f"attack '{FAMILY}:{name}' cannot be used on localizers: {why}")
    if wanted.lower() not in supported:
        raise UsageError(f"torchattacks {VERSION} has no attack '{wanted}'; known names: {known}")
    given: dict[str, str] = {}
    for param in params:
        name, equals, value = param.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"attack '{text}': expected param=value, e.g. steps=20; found '{param}'")
        if name in given:
            raise UsageError(f"attack '{text}' gives parameter {name} twice")
        given[name] = value
    return supported[wanted.lower()], given


def require_catalogue(settings: Iterable[Setting]) -> None:
    """Refuse settings of the catalogue where the library is not installed.

    Raises:
        UsageError: with how to install it.
    """
    name = next((one.attack for one in settings if one.attack in CLASSES), None)
    if name is None:
        return
    try:
        found = version(FAMILY)
    except PackageNotFoundError:
        found = ""
    if found != VERSION:
        told = f"{FAMILY} {found} is installed" if found else f"{FAMILY} is not installed"
        raise UsageError(f"attack '{FAMILY}:{CLASSES[name]}' needs {FAMILY} {VERSION}, and {told}: {INSTALL}")
