"""What `embedway embed` shows: a line for each vector, or one about the whole run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import orjson

from embedway.cli.filling import Filled
from embedway.cli.journal import Header, Journal
from embedway.cli.plan import Plan
from embedway.cli.terminal import duration
from embedway.money import usd_text
from embedway.types import Vector
from embedway.vectors import as_array

_SHOWN_NUMBERS = 4


class Printer:
    """Prints each row's vector: about it (`text`), or all its numbers (`json`)."""

    def __init__(self, form: str, journal: Journal) -> None:
        self._form = form
        self._journal = journal
        self.rows = 0

    def tell(self, filled: Filled) -> None:
        """Print a batch."""
        for name, _ in filled.rows:
            vector = self._journal.vector(name)
            if self._form == "json":
                print(orjson.dumps(as_array(vector), option=orjson.OPT_SERIALIZE_NUMPY).decode())
            else:
                embedding = filled.new.get(name)
                cost = embedding.cost if embedding else 0
                print(_about(self._journal.header, vector, filled.seconds, cost))
        self.rows += len(filled.rows)
        sys.stdout.flush()


def _about(header: Header, vector: Vector, seconds: float, cost: int) -> str:
    numbers = as_array(vector)
    shown = ", ".join(f"{number:.4f}" for number in numbers[:_SHOWN_NUMBERS])
    length = float(np.linalg.norm(numbers.astype(np.float64)))
    return (
        f"{header.model}  {header.dimensions} dims  {seconds * 1000:.3g} ms  ${usd_text(cost)}   "
        f"[{shown}, … ]   (‖v‖={length:.3f})"
    )


class Tally:
    """Counts what a run into a file did."""

    def __init__(self, plan: Plan, header: Header, path: Path) -> None:
        self._plan = plan
        self._header = header
        self._path = path
        self.skipped = len(plan.unique)
        """Different texts whose vectors were there before."""
        self._new = 0
        self._tokens = 0
        self._cost = 0

    def add(self, filled: Filled) -> int:
        """Count a batch; returns how many texts were new in it."""
        self._new += len(filled.new)
        self._tokens += sum(embedding.tokens for embedding in filled.new.values())
        self._cost += sum(embedding.cost for embedding in filled.new.values())
        return len(filled.new)

    def print(self, seconds: float, *, is_json: bool) -> None:
        """A line on standard error, or a JSON object on standard output."""
        plan, header = self._plan, self._header
        if is_json:
            record = {
                "output": str(self._path),
                "model": header.model,
                "dimensions": header.dimensions,
                "input_type": header.input_type,
                "texts": plan.rows,
                "unique": len(plan.unique),
                "new": self._new,
                "skipped": self.skipped,
                "blank": plan.blank,
                "tokens": self._tokens,
                "cost": usd_text(self._cost),
                "seconds": round(seconds, 3),
            }
            print(json.dumps(record))
            return
        double = plan.rows - len(plan.unique)
        parts = [
            f"{plan.rows:,} texts" + (f" ({double:,} repeated)" if double else ""),
            f"{self._new:,} new",
            f"{self.skipped:,} skipped",
            *([f"{plan.blank:,} blank"] if plan.blank else []),
            f"{self._tokens:,} tokens",
            f"${usd_text(self._cost)}",
            duration(seconds),
        ]
        print(f"{self._path}: {' · '.join(parts)}", file=sys.stderr)
