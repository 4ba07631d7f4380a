"""A headless Chromium for tests, spoken to over a pipe: nothing to install but the browser."""

import base64
import json
import os
import shutil
import subprocess
from contextlib import contextmanager

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
)


class Page:
    """One tab: `call` a method of the DevTools protocol, `evaluate` an expression, look at what was `logged`."""

    def __init__(self, to_browser, from_browser):
        self._to, self._from, self._session, self._number = to_browser, from_browser, None, 0
        self._events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while True:
            told = self._read()
            if told.get("id") == self._number:
                assert "error" not in told, told
                return told["result"]
            self._events.append(told)

    def _read(self):
        line = bytearray()
        while (byte := self._from.read(1)) != b"\0":
            assert byte, "the browser ended"
            line += byte
        return json.loads(line)

    def open(self, path, *, width=1280, height=900, scheme="light", scripts=True):
        """Load a file and wait for it."""
        self._events.clear()
        phone = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self._events):
            self._events.append(self._read())

    def evaluate(self, expression):
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def logged(self):
        """Errors and messages of the console, and requests that were refused."""
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [event["params"] for event in self._events if event.get("method") in kinds]

    def screenshot(self, path, *, whole=True):
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def browser(folder):
    """Start Chromium with a fresh profile in `folder` and yield a page."""
    read_end, to_browser = os.pipe()
    from_browser, write_end = os.pipe()

    def pipes():
        # the browser reads from 3 and writes to 4, whatever numbers our ends have
        os.dup2(os.dup(read_end), 3)
        os.dup2(os.dup(write_end), 4)

    spare = [os.dup(read_end), os.dup(write_end)]  # so that 3 and 4 are never the only copies
    program = subprocess.Popen(
        [PROGRAM, *_FLAGS, f"--user-data-dir={folder / 'profile'}"],
        preexec_fn=pipes,  # noqa: PLW1509 -- two calls of dup2, and nothing else can hand over 3 and 4
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (read_end, write_end, *spare):
        os.close(end)
    try:
        with os.fdopen(from_browser, "rb") as stream:
            yield Page(to_browser, stream)
    finally:
        program.terminate()
        program.wait(timeout=20)
        os.close(to_browser)
