"""A worker as a process of its own; it does not outlive the process that started it."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback

from afbench.cores import share_cores
from afbench.crash import crash_line
from afbench.interrupts import STOPPED, catch_signals, raise_if_stopped, was_stopped

_GRACE_SECONDS = 30


def main() -> None:
    """Read a job from stdin, run it, and write its report to stdout; stop when the parent process is gone."""
    catch_signals()
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # stdout carries the report alone; what a user's own localizer prints goes to stderr
    try:
        text = sys.stdin.readline()
        threading.Thread(target=_stop_with_parent, daemon=True).start()
        share_cores()
        from .worker import run_job  # seconds of imports, during which it can be stopped

        report = run_job(text)
        if "error" in report:
            raise_if_stopped()
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except Exception as error:
        if was_stopped():
            sys.exit(STOPPED)
        traceback.print_exc()
        sys.exit(crash_line(error))  # the parent shows the last line
    answer.write(json.dumps(report))
    answer.close()


def _stop_with_parent() -> None:
    # the read returns nothing once the parent closes its end or dies; sys.stdin would not do, since a daemon thread must not
    # hold its lock when the interpreter ends
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(STOPPED)
