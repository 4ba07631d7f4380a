"""Compare the configs of one folder: a folder is one benchmark, and a name in it stands for one network.

Per folder: the seed, and the size at which images are attacked. Per localizer, and whatever defence it stands behind: the
network, its weights, threshold and resolution, and the arithmetic, since every config repeats what the localizer finds
in the originals. Per name: the defence behind it. What may differ: the image format, which is lossless, the batch size, the
device and the versions. The samples of a split are compared by ``check_splits`` when a run begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from afbench.core import AfbenchError
from afbench.plans import canonical_json

_NETWORK = ("architecture", "weights_sha256", "threshold", "resolution", "logit")
_OPTIONS = {"seed": "--seed", "attack_at": "--attack-at", "precision": "--precision", "compile": "--compile"}
_WORDS = {"weights_sha256": "weights", "attack_at": "attack-at"}


class Fact(NamedTuple):
    """Something that has one value for all configs of a ``scope``: a localizer's name, or "" for the whole folder."""

    scope: str
    key: str

    def __str__(self) -> str:
        word = _WORDS.get(self.key, self.key)
        return f"{word} of '{self.scope}'" if self.scope else word


class Disagreement(NamedTuple):
    """A config with a value that no config before it has; ``first_config`` is the first of those."""

    fact: Fact
    config: str
    value: str
    first_config: str
    first_value: str

    def __str__(self) -> str:
        return f"{self.fact} is {self.first_value} in config {self.first_config} and {self.value} in {self.config}"

    @property
    def remedy(self) -> str:
        """Say what to ask for instead, so that the config can join."""
        option = _OPTIONS.get(self.fact.key)
        if option == "--compile":
            option = "--compile" if self.first_value == "true" else "no --compile"
        elif option:
            option = f"{option} {self.first_value}"
        choices = [*([option] if option else []), *(["another --localizer-name"] if self.fact.scope else [])]
        return f"give {' or '.join([*choices, 'another --out'])}"


def disagreements(provenances: Mapping[str, Mapping[str, Any]]) -> Iterator[Disagreement]:
    """Compare the ``provenance`` of every attacked config with those before it; each further value is named once.

    Raises:
        AfbenchError: if a ``provenance`` is damaged.
    """
    values_of: dict[Fact, dict[str, str]] = {}
    for config, provenance in provenances.items():
        try:
            agreed_facts = _facts(provenance)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise AfbenchError(f"manifest of config {config} is damaged: see `afbench verify`") from None
        for fact, value in agreed_facts.items():
            values = values_of.setdefault(fact, {})
            if values and value not in values:
                first_value, first_config = next(iter(values.items()))
                yield Disagreement(fact, config, _short(fact, value), first_config, _short(fact, first_value))
            values.setdefault(value, config)


def bare_name(provenance: Mapping[str, Any]) -> str:
    """Return what configs call the localizer without its defence: of ``reference_jpeg_75``, ``reference``."""
    name = str(provenance["localizer"]["name"])
    defence = provenance.get("defence")
    if defence is None:
        return name
    return name.rpartition("_" + str(defence["name"]).replace("-", "_"))[0] or name


def _facts(provenance: Mapping[str, Any]) -> dict[Fact, str]:
    localizer, bare = provenance["localizer"], bare_name(provenance)
    # a key that an older version did not write says nothing
    values: dict[Fact, Any] = {
        Fact("", key): provenance[key] for key in ("seed", "attack_at") if key in provenance
    }
    values |= {Fact(bare, key): localizer[key] for key in _NETWORK if key in localizer}
    values |= {Fact(bare, "precision"): provenance["precision"]} if "precision" in provenance else {}
    values[Fact(bare, "compile")] = bool(provenance.get("compile"))
    if "defence" in provenance:
        # how an attack looks through it, and the seed of a random one, may differ
        defence = {key: provenance["defence"].get(key) for key in ("name", "params", "weights_sha256")}
        values[Fact(str(localizer["name"]), "defence")] = defence
    return {
        fact: value if isinstance(value, str) else canonical_json(value) for fact, value in values.items()
    }


def _short(fact: Fact, value: str) -> str:
    return value[:12] if fact.key == "weights_sha256" else value
