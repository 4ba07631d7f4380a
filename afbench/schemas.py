"""The JSON schemas in manifests/schema, and what breaks them, in one line."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from .resources import resource_path
from .untrusted import visible

_LONGEST = 200
"""Characters of a message: it quotes the value, which may be of any size."""


@cache
def _validator(name: str) -> Draft202012Validator:
    text = resource_path(f"manifests/schema/{name}.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def schema_problem(name: str, value: Any) -> str:
    """Say where and how a value breaks ``manifests/schema/<name>.schema.json``; empty if it does not."""
    error = next(_validator(name).iter_errors(value), None)
    return "" if error is None else _line(error)


def _line(error: ValidationError) -> str:
    key_path = "/".join(map(str, error.absolute_path)) or "top level"
    line = " ".join(visible(f"{key_path}: {error.message}").split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
