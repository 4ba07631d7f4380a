"""Print text safely: no character of a stranger's text moves the cursor or changes a colour. All commands print this way."""

from __future__ import annotations

import click

from afbench.untrusted import visible


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print to stdout, where results go, or with ``err`` to stderr."""
    click.echo(visible(text), err=err, nl=nl)
