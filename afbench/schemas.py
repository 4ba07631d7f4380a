"""Check data against the JSON schemas in manifests/schema, and describe a violation in one line."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from .resources import resource_path
from .untrusted import visible

_LONGEST = 200
"""Characters of a message: it quotes the value, which may be of any size."""


def schema_problem(name: str, value: Any) -> str:
    """Say where and how a value breaks ``manifests/schema/<name>.schema.json`` most plainly; empty if it does not."""
    error = best_match(_validator(name).iter_errors(value))
    return "" if error is None else _line(error)


def schema_problems(name: str, value: Any, *, required: Collection[str] | None = None) -> Iterator[str]:
    """Yield every way in which a value breaks a schema, one line each.

    Args:
        name: of the schema.
        value: what was read.
        required: keys of the top level whose absence counts; omitted, all that the schema requires.
    """
    return map(_line, _validator(name, required).iter_errors(value))


@cache
def _schema(name: str) -> dict[str, Any]:
    text = resource_path(f"manifests/schema/{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _validator(name: str, required: Collection[str] | None = None) -> Draft202012Validator:
    schema = _schema(name)
    if required is not None:
        schema = {**schema, "required": [key for key in schema["required"] if key in required]}
    return Draft202012Validator(schema)


def _line(error: ValidationError) -> str:
    key_path = "/".join(map(str, error.absolute_path)) or "top level"
    line = " ".join(visible(f"{key_path}: {error.message}").split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
