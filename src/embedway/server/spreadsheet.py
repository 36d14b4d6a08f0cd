"""Records as CSV (RFC 4180), safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(names: Sequence[str], records: Iterable[Mapping[str, Any]]) -> str:
    """A line of *names* and one for each record. What is not there is an empty cell."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(names)
    writer.writerows([_cell(record[name]) for name in names] for record in records)
    return out.getvalue()


def _cell(value: Any) -> Any:
    """Callers choose users and tags: a text that a spreadsheet would take for a formula, and
    compute, begins with an apostrophe (owasp.org/www-community/attacks/CSV_Injection)."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
