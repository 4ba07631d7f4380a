"""Make pages that need no server and nothing from elsewhere: every text escaped, every style and script allowed by its hash."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES = Path(__file__).with_name("templates")


def page_environment() -> Environment:
    """Return the templates of this room; what they put into a page is escaped."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def inline_file(name: str) -> Markup:
    """Read a file that stands in the page as it is; the policy holds its hash, so no other script or style is allowed."""
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


def content_policy(style: str, script: str | None = None) -> str:
    """Allow this style and this script by their hashes, and nothing from anywhere."""

    def digest(text: str) -> str:
        return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()

    script_source = "" if script is None else f"script-src '{digest(script)}'; "
    return (
        f"default-src 'none'; style-src '{digest(style)}'; {script_source}"
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
