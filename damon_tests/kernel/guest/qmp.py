# SPDX-License-Identifier: GPL-2.0
"""QEMU's machine protocol (QMP): one JSON object per line, over a connected socket."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from damon_tests.ports import HarnessError, TimedOut


class Qmp:
    """A control connection to one QEMU. Every call returns an answer or raises within ``timeout_s``."""

    def __init__(self, connection: socket.socket, timeout_s: float = 30.0) -> None:
        self._socket = connection
        self._timeout_s = timeout_s
        self._received = b""
        self._next_message(time.monotonic() + timeout_s)  # the greeting
        self.call("qmp_capabilities")

    def call(self, command: str, **arguments: Any) -> Any:
        """Run a command and return its result. Underscores in argument names become dashes.

        Raises HarnessError, with QEMU's own message, when QEMU refuses the command or has ended.
        """
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise HarnessError(f"QEMU does not take {command!r}: {error}") from error
        deadline = time.monotonic() + self._timeout_s
        while True:
            message = self._next_message(deadline)
            if "error" in message:
                raise HarnessError(f"QEMU refuses {command!r}: {message['error'].get('desc', message)}")
            if "return" in message:
                return message["return"]
            # Anything else is an event, which no caller waits for.

    def wait_migration(self, timeout_s: float = 60.0, poll_s: float = 0.005) -> None:
        """Return when a migration (saving or loading a state) has completed."""
        deadline = time.monotonic() + timeout_s
        while True:
            status = self.call("query-migrate")
            if status.get("status") == "completed":
                return
            if status.get("status") in ("failed", "cancelled"):
                raise HarnessError(
                    f"QEMU could not save or load the guest: {status.get('error-desc', status)}"
                )
            if time.monotonic() > deadline:
                raise TimedOut(f"QEMU did not save or load the guest in {timeout_s:.0f} s: {status}")
            time.sleep(poll_s)

    def _next_message(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._received:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError as error:
                raise TimedOut("QEMU does not answer on its control socket") from error
            except OSError as error:
                raise HarnessError(f"QEMU's control socket broke: {error}") from error
            if not chunk:
                raise HarnessError("QEMU has closed its control socket")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        self._socket.close()
