"""What the scripts beside this file share: cases by name, and one line of JSON at the end."""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import json
import socket
import sys
from collections.abc import Callable
from typing import Any

question: dict[str, Any] = json.load(sys.stdin)
_cases: dict[str, Callable[[], Any]] = {}


def case(function: Callable[[], Any]) -> Callable[[], Any]:
    """Register a case under its function's name. What it returns, or raises, is its answer."""
    _cases[function.__name__] = function
    return function


def main() -> None:
    """Run all cases, each on its own, and print their answers."""
    answers = {name: _run(function) for name, function in _cases.items()}
    sys.stdout.write(f"{json.dumps(answers)}\n")


def _run(function: Callable[[], Any]) -> Any:
    try:
        answer = function()
        return asyncio.run(answer) if inspect.iscoroutine(answer) else answer
    except Exception as error:
        return {"error": describe(error)}


def describe(error: Exception) -> dict[str, Any]:
    """A client's error as plain data."""
    names = ("status_code", "code", "type", "param", "message", "request_id")
    told = {name: getattr(error, name, None) for name in names}
    return {
        "classes": [kind.__name__ for kind in type(error).__mro__],
        "text": str(error),
        **{name: value for name, value in told.items() if isinstance(value, str | int | None)},
    }


def _guard(connect: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse what leaves this machine: no test needs it, and a client might try."""

    def guarded(self: socket.socket, address: Any) -> Any:
        is_ip = self.family in (socket.AF_INET, socket.AF_INET6)
        if is_ip and not ipaddress.ip_address(address[0]).is_loopback:
            raise OSError(f"{address} is not a loopback address")
        return connect(self, address)

    return guarded


socket.socket.connect = _guard(socket.socket.connect)  # type: ignore[method-assign] # on purpose
socket.socket.connect_ex = _guard(socket.socket.connect_ex)  # type: ignore[method-assign] # likewise
