"""What real clients were seen to send, request by request (recorded.json), and its expansion.

The recorded models, providers and keys are replaced by those of the tests. Long inputs are written
short: `{"repeat": x, "times": n}` and `{"counting": "t", "count": n}`.
"""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct

from tests.clients.environments import HERE


class Recorded(Struct, frozen=True):
    """One request; `body` is None for a GET."""

    client: str
    case: str
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The test's id."""
        return f"{self.client}-{self.case}"

    @property
    def inputs(self) -> Any:
        """What is to be embedded, in either protocol."""
        body = self.body or {}
        return body.get("values", body.get("input"))

    @property
    def dimensions(self) -> int:
        """The width that the caller asked for."""
        body = self.body or {}
        return body.get("dimensions") or 256


def load_recorded() -> list[Recorded]:
    """All requests, inputs in full."""
    rows = json.loads((HERE / "recorded.json").read_text("utf-8"))
    return [Recorded(**{**row, "body": _expand(row["body"])}) for row in rows]


def load_covered() -> dict[str, dict[str, str]]:
    """By client and recorded case: the test in which that client sends this request."""
    covered: dict[str, dict[str, str]] = json.loads((HERE / "covered.json").read_text("utf-8"))
    return covered


def _expand(value: Any) -> Any:
    if isinstance(value, list):
        expanded: list[Any] = []
        for item in value:
            whole = _expand(item)
            # A short form stands for several items of the list that it is in.
            expanded.extend(whole if isinstance(item, dict) else [whole])
        return expanded
    if not isinstance(value, dict):
        return value
    if "counting" in value:
        return [f"{value['counting']}{i}" for i in range(value["count"])]
    if "repeat" in value:
        repeated = value["repeat"]
        return (repeated if isinstance(repeated, str) else [repeated]) * value["times"]
    return {name: _expand(inner) for name, inner in value.items()}
