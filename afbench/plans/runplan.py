"""Read a plan from YAML, check it against its schema, and expand it into settings. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from afbench.core import ReadOptions, Setting, ShardFormat, UsageError
from afbench.naming import did_you_mean, resolve_name, unknown_name
from afbench.resources import resource_json, resource_path
from afbench.schemas import schema_problem

from .attack_settings import make_setting
from .attack_spec import Attack
from .attacks import PAPER_PHI, PAPER_STEPS
from .own_attack import find_attack

OWN_LAYOUTS = ("folder", "list", "hf")
SOURCE_NAMES = ("synthetic", "demo", *OWN_LAYOUTS)
"""Sources this version can read; manifests/sources describes published ones."""
READ_KEYS = {"mask_threshold", "mask_nonzero", "ignore_alpha", "max_side"}
"""The keys of a plan that change how a source's pixels are read."""
SEED_LIMIT = 2**32
"""Seeds are below this; what the shipped weights were trained on lies above."""


@dataclass(frozen=True)
class SourceSpec:
    """A source by name, with the user's own copy (a folder, or an index of it) where it needs one.

    ``sha256`` pins what ``afbench index`` printed: another copy is refused. ``layout`` is the source it is read as where
    ``name`` is the user's own, ``terms`` are those of the user's own images, and ``read`` says how pixels are read.
    """

    name: str
    root: str | None = None
    sha256: str | None = None
    layout: str = ""
    terms: str = ""
    read: ReadOptions = ReadOptions()  # noqa: RUF009 - frozen

    @property
    def read_as(self) -> str:
        """The source whose layout the root has."""
        return self.layout or self.name


@dataclass(frozen=True)
class Block:
    """Every localizer meets every source and every setting."""

    localizers: tuple[str, ...]
    sources: tuple[SourceSpec, ...]
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class RunPlan:
    """Everything a run is to generate. ``limit`` takes the first samples of each source; ``shard_format`` None is the folder's."""

    name: str
    blocks: tuple[Block, ...]
    seed: int = 0
    limit: int | None = None
    shard_format: ShardFormat | None = None


def list_plans() -> dict[str, str]:
    """List the plans that ship with the package: name and description."""
    paths = sorted(resource_path("manifests/plans").glob("*.yaml"))
    return {path.stem: str(_parse(path).get("description", "")) for path in paths}


def read_plan(name_or_path: str, *, large_phi: bool = False) -> RunPlan:
    """Read a shipped plan by name, or a YAML file by path; ``large_phi`` accepts phi above 0.1.

    Raises:
        UsageError: if there is none, it is no YAML, or it does not follow manifests/schema/plan.schema.json;
            the message names the key.
    """
    path = Path(name_or_path)
    names = [plan_path.stem for plan_path in resource_path("manifests/plans").glob("*.yaml")]
    name = resolve_name("plan", name_or_path, names)
    if name is not None and (name == name_or_path or not path.is_file()):
        path = resource_path(f"manifests/plans/{name}.yaml")
    if not path.is_file():
        suggestion = did_you_mean("plan", name_or_path, names)
        raise UsageError(
            f"plan '{name_or_path}' is no file and no shipped plan; {suggestion}shipped plans: {', '.join(sorted(names))}"
        )
    raw = _parse(path)
    if message := schema_problem("plan", raw):
        raise UsageError(f"plan {path}: {message}")
    return _expand(raw, large_phi)


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        # a few lines of aliases stand for a document that fills the memory
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError("aliases (*name) are not taken; write the values out")
        _refuse_repeated_keys(path, yaml.compose(text, yaml.SafeLoader))
        raw = yaml.safe_load(text)
    except (
        yaml.YAMLError,
        OSError,
        RecursionError,
        ValueError,  # the rest is what PyYAML lets through for a bad !!bool, date or number
        LookupError,
        AttributeError,
        TypeError,
    ) as error:
        first = " ".join(str(error).split())[:160]
        raise UsageError(f"plan {path} cannot be read as YAML: {first}") from None
    if not isinstance(raw, dict):
        raise UsageError(f"plan {path}: expected a mapping with name and blocks, found {type(raw).__name__}")
    return raw


def _refuse_repeated_keys(path: Path, node: yaml.Node | None) -> None:
    """Refuse a mapping with a key that comes twice: of both values the last would win without a word."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise UsageError(
                    f"plan {path}: '{key.value}' comes twice, again in line {key.start_mark.line + 1}"
                )
            seen.add(key.value)
            _refuse_repeated_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(path, value)


def _expand(raw: Mapping[str, Any], large_phi: bool) -> RunPlan:
    blocks = tuple(
        Block(
            localizers=tuple(block["localizers"]),
            sources=tuple(_read_source(source) for source in block["sources"]),
            settings=tuple(
                setting
                for row in block["attacks"]
                for setting in expand_attack(
                    row["attack"],
                    phi=row.get("phi", ()),
                    steps=row.get("steps", ()),
                    params=row.get("params", {}),
                    large_phi=large_phi,
                )
            ),
        )
        for block in raw["blocks"]
    )
    limit = int(raw["limit"]) if "limit" in raw else None  # to JSON schema 4.0 is an integer
    return check_plan(RunPlan(raw["name"], blocks, int(raw.get("seed", 0)), limit, raw.get("format")))


def _read_source(raw: str | Mapping[str, Any]) -> SourceSpec:
    if isinstance(raw, str):
        return parse_source(raw)
    read = ReadOptions(**{key: raw[key] for key in READ_KEYS & raw.keys()})
    spec = with_read_options(parse_source(raw["source"]), read)
    return with_terms(replace(spec, sha256=raw.get("sha256")), raw.get("terms", ""))


def expand_attack(
    attack: str | Attack,
    *,
    phi: Sequence[str | float] = (),
    steps: Sequence[str | int] = (),
    params: Mapping[str, Any] | None = None,
    large_phi: bool = False,
) -> list[Setting]:
    """Make all settings of one attack, also ``torchattacks:NAME[:param=value...]`` and a user's own ``MODULE:FUNCTION[:...]``;
    omitted phi or steps are the paper's.

    Raises:
        UsageError: for an unknown attack or a value out of range.
    """
    spec, inline_params = find_attack(attack) if isinstance(attack, str) else (attack, {})
    params = {**(params or {}), **inline_params}
    sweeps = spec.sweeps
    if (steps and sweeps == "phi") or (phi and sweeps == "steps"):
        other_sweep = "phi" if sweeps == "steps" else "steps"
        raise UsageError(
            f"attack '{spec.name}' takes {sweeps}, not {other_sweep}; its own iterations are --param steps=N"
        )
    if sweeps == "steps":
        values: Sequence[str | float] = steps or PAPER_STEPS
    else:
        values = phi or PAPER_PHI
    return [make_setting(spec, value, params, large_phi=large_phi) for value in values]


def _as_path(text: str) -> str:
    """Say how to name images of the user's own, where a text that names no source is a path."""
    path = Path(text)
    if not path.exists():
        return ""
    return f"; for your own images there write {'folder' if path.is_dir() else 'list'}:{text}"


def parse_source(text: str) -> SourceSpec:
    """Read ``NAME``, ``NAME:ROOT`` or ``OWN=NAME:ROOT``; names in any case and by common aliases, as ``CASIA1``.

    Raises:
        UsageError: if the name is unknown, the user's own is not legal, or a root is missing or not taken.
    """
    user_name, equals, rest = text.partition("=")
    if equals and ":" not in user_name:
        return _renamed(user_name, parse_source(rest))
    source_name, _, root = text.partition(":")
    known_names = (*SOURCE_NAMES, *resource_json("sources"))
    name = resolve_name("source", source_name, known_names)
    if name is None:
        raise unknown_name("source", source_name, known_names, _as_path(text))
    if name in OWN_LAYOUTS and not root:
        holds = {
            "folder": "PATH/images and PATH/masks",
            "list": "a list of images and masks",
            "hf": "Parquet files or a folder of Dataset.save_to_disk",
        }[name]
        raise UsageError(f"source '{name}' needs its root: --source {name}:PATH with {holds}")
    if name in ("synthetic", "demo") and root:
        raise UsageError(f"source '{name}' takes no root; found '{root}'")
    return SourceSpec(name, root or None)


def _renamed(user_name: str, spec: SourceSpec) -> SourceSpec:
    """Give a source the user's own name, which becomes that of its split, of its files and in ``load_dataset``."""
    if spec.name in ("synthetic", "demo"):
        raise UsageError(
            f"source '{spec.name}' comes with afbench and keeps its name; found '{user_name}={spec.name}'"
        )
    if not re.fullmatch(r"[a-z0-9_]{1,60}", user_name):
        raise UsageError(f"the name of a source must be 1 to 60 of a-z, 0-9 and _; found '{user_name[:80]}'")
    if user_name == "all" or (
        user_name in (*SOURCE_NAMES, *resource_json("sources")) and user_name != spec.name
    ):
        raise UsageError(f"the name '{user_name}' has another meaning; give '{spec.name}' another name")
    return spec if user_name == spec.name else replace(spec, name=user_name, layout=spec.read_as)


def with_terms(spec: SourceSpec, terms: str) -> SourceSpec:
    """Attach terms of use to a user's own source.

    Raises:
        UsageError: if the source has terms already, or these are no line of text.
    """
    if not terms:
        return spec
    if spec.read_as not in OWN_LAYOUTS:
        raise UsageError(
            f"source '{spec.name}' has terms of its own; --terms is for a folder or list of yours"
        )
    if len(terms) > 500 or not terms.isprintable() or not terms.strip():
        raise UsageError("--terms must be one line of at most 500 printable characters")
    return replace(spec, terms=terms.strip())


def with_read_options(spec: SourceSpec, read: ReadOptions) -> SourceSpec:
    """Attach the user's options for reading pixels to a source.

    Raises:
        UsageError: if the source comes with afbench.
    """
    if read != ReadOptions() and spec.name in ("synthetic", "demo"):
        names = ", ".join(f"--{key.replace('_', '-')}" for key in read.as_json())
        raise UsageError(f"{names}: source '{spec.name}' comes with afbench and needs no such option")
    return replace(spec, read=read)


def check_plan(plan: RunPlan) -> RunPlan:
    """Refuse what no schema can: doubled settings and sources, a seed out of range.

    Raises:
        UsageError: with the entry that is wrong.
    """
    if not 0 <= plan.seed < SEED_LIMIT:
        raise UsageError(f"seed must be from 0 to {SEED_LIMIT - 1}; found {plan.seed}")
    if plan.limit is not None and plan.limit < 1:
        raise UsageError(f"limit must be at least 1 sample; found {plan.limit}")
    for block in plan.blocks:
        for kind, names in (
            ("setting", [f"{setting.attack}-{setting.label}" for setting in block.settings]),
            ("source", [source.name for source in block.sources]),
            ("localizer", list(block.localizers)),
        ):
            doubled = sorted({name for name in names if names.count(name) > 1})
            if doubled:
                named = f"; name each: --source NAME={doubled[0]}:ROOT" if kind == "source" else ""
                raise UsageError(f"{kind} '{doubled[0]}' is asked for twice{named}")
    _check_blocks(plan.blocks)
    return plan


def _check_blocks(blocks: Sequence[Block]) -> None:
    """Refuse a source from two roots, and a config of a source in two blocks."""
    specs: dict[str, SourceSpec] = {}
    seen_configs: set[tuple[str, str, str]] = set()
    for block in blocks:
        for source in block.sources:
            first_spec = specs.setdefault(source.name, source)
            if first_spec.root != source.root:
                raise UsageError(
                    f"source '{source.name}' is asked for with two roots, {first_spec.root} and {source.root}; "
                    f"name each: --source NAME={source.read_as}:ROOT"
                )
            # the pin is compared below, with a message of its own
            if replace(first_spec, sha256=None) != replace(source, sha256=None):
                raise UsageError(
                    f"source '{source.name}' is read in two ways; ask for it alike in every block"
                )
            if first_spec.sha256 != source.sha256:
                raise UsageError(f"source '{source.name}' is pinned in two ways; pin it alike in every block")
        for localizer, source, setting in product(block.localizers, block.sources, block.settings):
            key = localizer, source.name, f"{setting.attack}-{setting.label}"
            if key in seen_configs:
                raise UsageError(f"{' on '.join(key[:2])} with {key[2]} is asked for in two blocks")
            seen_configs.add(key)
