"""Remember Ctrl-C and SIGTERM: a library may lose an interrupt, or turn it into an error that looks like a bad file."""

from __future__ import annotations

import atexit
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
    """Make SIGINT and SIGTERM raise KeyboardInterrupt, and remember them; an ignored SIGINT stays ignored."""
    _stopped.clear()
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _stop)
    sys.unraisablehook = _ignore_interrupts


def end_at_once() -> None:
    """Make a signal end the process at once: for a command that has reported all and only waits for its threads."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _stop:
            signal.signal(number, _exit)
    # Python gives signals their default back before it is gone, and one that comes then would kill a command that is done
    atexit.register(_ignore_signals)


def was_stopped() -> bool:
    """Return whether a signal came since ``catch_signals``."""
    return _stopped.is_set()


def raise_if_stopped() -> None:
    """Raise the interrupt again if a signal came; call it before an error is blamed on a file.

    Raises:
        KeyboardInterrupt: if a signal came, even if a library has swallowed the first interrupt.
    """
    if _stopped.is_set():
        raise KeyboardInterrupt


def _stop(number: int, frame: FrameType | None) -> None:
    _stopped.set()
    raise KeyboardInterrupt


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(STOPPED)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _exit:
            signal.signal(number, signal.SIG_IGN)


def _ignore_interrupts(unraisable: Any) -> None:
    """Stay silent about an interrupt in a destructor, where Python cannot raise it: it is remembered already."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
