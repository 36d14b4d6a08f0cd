"""Runs printed Python samples: `question["samples"]` has their code by name."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

from cases import case, main, question

os.environ["AI_GATEWAY_API_KEY"] = question["key"]


def register(name: str, code: str) -> None:
    def run() -> Any:
        names: dict[str, Any] = {}
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        # One sample keeps its vectors under other names than `response`.
        rows = names["response"].data if "response" in names else names["documents"]
        vectors = [row.embedding for row in rows]
        return {
            "vectors": [*([names["query"]] if "query" in names else []), *vectors],
            "printed": printed.getvalue(),
        }

    run.__name__ = name
    case(run)


for sample, code in question["samples"].items():
    register(sample, code)

main()
