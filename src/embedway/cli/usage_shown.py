"""What `embedway usage` prints: tables for people, CSV and JSON for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from embedway.cli.terminal import table
from embedway.money import usd_text
from embedway.store.usage import AttemptSums, Group, UnknownAttempt, UsageQuery, UsageSum

_NUMBERS = ("REQUESTS", "ERRORS", "INPUTS", "TOKENS", "COST $", "AT LIST PRICE $", "SAVED $")
_UNKNOWN = ("SENT", "PROVIDER", "MODEL", "INPUTS", "TOKENS AT MOST", "COST AT MOST $", "REQUEST")
_NONE = "-"

Record = Mapping[str, str | int | None]


class Report(Struct, frozen=True, kw_only=True):
    """What was asked for and what was found."""

    by: tuple[Group, ...]
    query: UsageQuery
    sums: Sequence[UsageSum]
    total: UsageSum
    key_names: Mapping[str, str]

    def records(self) -> list[Record]:
        """A record for each group; the ids of keys with their names."""
        return [
            {**one.record(self.by), **({"key_name": self._name(one)} if "key" in self.by else {})}
            for one in self.sums
        ]

    def _name(self, one: UsageSum) -> str | None:
        return self.key_names.get(one.group[self.by.index("key")] or "")


def show_requests(report: Report, *, is_csv: bool, is_json: bool) -> None:
    """Sums of requests, and their total."""
    if is_json:
        answer = {
            "by": report.by,
            "since_ms": report.query.since_ms,
            "until_ms": report.query.until_ms,
            "groups": report.records(),
            "total": report.total.record(()),
        }
        print(json.dumps(answer))
    elif is_csv:
        names = [*report.by, *report.total.record(())]
        _print_csv([*names, *(["key_name"] if "key" in report.by else [])], report.records())
    elif not report.sums:
        print("no requests")
    else:
        _print_requests(report)


def _print_requests(report: Report) -> None:
    labels = ["TOTAL", *[""] * (len(report.by) - 1)]
    rows = [
        *([*_labels(one, report), *_numbers(one)] for one in report.sums),
        [*labels, *_numbers(report.total)],
    ]
    head = [*(name.upper() for name in report.by), *_NUMBERS]
    print(table(head, rows, right=range(len(report.by), len(head))))
    if "tag" in report.by:
        print("A request counts under each of its tags, and once in the total.")


def _labels(one: UsageSum, report: Report) -> list[str]:
    labels = []
    for name, value in zip(report.by, one.group, strict=True):
        known = report.key_names.get(value or "") if name == "key" else None
        labels.append(f"{known} ({value})" if known else _NONE if value is None else value)
    return labels


def _numbers(one: UsageSum) -> list[str]:
    counts = (one.requests, one.errors, one.inputs, one.tokens)
    amounts = (one.cost, one.market_cost, one.saved)
    return [*(f"{count:,}" for count in counts), *map(usd_text, amounts)]


def show_attempts(sums: AttemptSums, *, is_csv: bool, is_json: bool) -> None:
    """Sums of attempts at providers."""
    record = sums.record()
    if is_json:
        print(json.dumps(record))
    elif is_csv:
        _print_csv(list(record), [record])
    else:
        rows = [
            ("settled tokens", f"{sums.settled_tokens:,}"),
            ("settled cost", f"${usd_text(sums.settled_cost)}"),
            ("unknown attempts", f"{sums.unknown_attempts:,}"),
            ("unknown tokens, at most", f"{sums.unknown_tokens_reserved:,}"),
            ("unbilled attempts", f"{sums.unbilled_attempts:,}"),
            ("attempts under way", f"{sums.reserved_attempts:,}"),
        ]
        print(table(("ATTEMPTS AT PROVIDERS", ""), rows, right=(1,)))


def show_unknown(attempts: Sequence[UnknownAttempt], *, is_csv: bool, is_json: bool) -> None:
    """The attempts to look for on a provider's bill."""
    records = [one.record() for one in attempts]
    if is_json:
        print(json.dumps(records))
    elif is_csv:
        _print_csv(UnknownAttempt.__struct_fields__, records)
    elif not attempts:
        print("no unknown attempts")
    else:
        rows = [
            (
                f"{datetime.fromtimestamp(one.created_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC",
                one.provider,
                one.model,
                f"{one.inputs:,}",
                f"{one.reserved_tokens:,}",
                usd_text(one.reserved_cost),
                f"req_{one.request_id}",
            )
            for one in attempts
        ]
        print(table(_UNKNOWN, rows, right=(3, 4, 5)))


def _print_csv(names: Sequence[str], records: Sequence[Record]) -> None:
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
