"""Ctrl-C and SIGTERM, remembered: a library may lose the interrupt, or make of it an error that looks like a bad file."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

STOPPED = 3
"""What a command that was stopped exits with."""
_stopped = threading.Event()


def catch_signals() -> None:
    """From now on SIGINT and SIGTERM raise KeyboardInterrupt and are remembered; an ignored SIGINT stays ignored."""
    _stopped.clear()
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _stop)
    sys.unraisablehook = _told_already


def end_at_once() -> None:
    """From now on a signal ends the process where it is: all has been said, and threads may still be waited for."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _stop:
            signal.signal(number, _exit)


def was_stopped() -> bool:
    """Whether a signal came since ``catch_signals``."""
    return _stopped.is_set()


def raise_if_stopped() -> None:
    """Go on unless a signal came: called before anything is called bad.

    Raises:
        KeyboardInterrupt: if one came, whatever became of the first one.
    """
    if _stopped.is_set():
        raise KeyboardInterrupt


def _stop(number: int, frame: FrameType | None) -> None:
    _stopped.set()
    raise KeyboardInterrupt


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(STOPPED)


def _told_already(unraisable: Any) -> None:
    """Say nothing of an interrupt that hit a destructor, where Python cannot raise it; it is remembered."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
