"""Print on stderr what the library logs while a command runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from .echo import echo


class _EchoHandler(logging.Handler):
    """Prints a notice as it is, and a warning behind the program's name."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "afbench: warning: " if record.levelno >= logging.WARNING else ""
        echo(prefix + record.getMessage(), err=True)


@contextmanager
def echo_notices() -> Iterator[None]:
    """Print the notices and warnings of the library until the end of the block."""
    logger, handler = logging.getLogger("afbench"), _EchoHandler()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a library that configures logging would print each line again
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
