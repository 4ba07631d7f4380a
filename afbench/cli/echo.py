"""The one way in which commands print: no character of anybody's text moves the cursor or changes a colour."""

from __future__ import annotations

import click

from afbench.untrusted import visible


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print to stdout, the result, or with ``err`` to stderr."""
    click.echo(visible(text), err=err, nl=nl)
