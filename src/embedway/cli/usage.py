"""`embedway usage`: what was asked, by whom, and what it cost. Needs only the database."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Mapping

from embedway.catalog_file import load_catalog
from embedway.cli.arguments import Parser, add_common, load
from embedway.cli.moments import end, start
from embedway.cli.served import look_around
from embedway.cli.stop import OK, WRONG_USAGE, Stop
from embedway.cli.usage_shown import Report, show_attempts, show_requests, show_unknown
from embedway.clock import SystemClock
from embedway.settings import Settings
from embedway.store.database import open_database
from embedway.store.usage import (
    GROUPS,
    Group,
    UsageQuery,
    add_up,
    attempt_sums,
    key_names,
    unknown_attempts_of,
    usage_sums,
)

_DEFAULT_BY: tuple[Group, ...] = ("model",)
_OF_REQUESTS = ("by", "user", "tag")


def add_arguments(parser: Parser) -> None:
    """Declare what to add up, by what, and how to print it."""
    parser.epilog = (
        "examples:\n"
        "  embedway usage --by key,model,day --since 7d\n"
        "  embedway usage --by user --project search --csv > users.csv\n"
        "  embedway usage --attempts --json\n\n"
        f"{parser.epilog}"
    )
    parser.add_argument(
        "--by",
        type=_groups,
        metavar="A,B",
        help=f"a line for each of these: any of {', '.join(GROUPS)} (default: model)",
    )
    _add_filters(parser)
    parser.add_argument(
        "--attempts",
        action="store_true",
        help="instead: what was sent to providers, by what is known of its bill",
    )
    parser.add_argument(
        "--unknown",
        action="store_true",
        help="instead: each attempt that a provider may have billed without telling",
    )
    parser.add_argument("--csv", action="store_true", help="print CSV, without a line of totals")
    add_common(parser, "print one JSON object; with --unknown a JSON array")


def _add_filters(parser: Parser) -> None:
    when = "7d, 12h or 90m ago, or a day of UTC"
    parser.add_argument("--since", type=start, metavar="WHEN", help=f"from then on: {when}")
    parser.add_argument("--until", type=end, metavar="WHEN", help=f"until then: {when}, inclusive")
    for name, meaning in (
        ("key", "an API key's id or name"),
        ("project", "a project"),
        ("model", "the model that served, or an alias of it"),
        ("provider", "the account that served"),
        ("user", "the user that callers named"),
        ("tag", "a tag that callers gave"),
    ):
        help = f"only {meaning}"
        parser.add_argument(f"--{name}", type=_text, metavar=name[0].upper(), help=help)


def run(arguments: Namespace) -> int:
    """Add up and print."""
    _refuse_together(arguments)
    settings = load(arguments).settings
    engine = open_database(settings.home_path, settings.database_url)
    try:
        names = key_names(engine)
        query = _query(arguments, settings, names, SystemClock().now())
        if arguments.unknown:
            unknown = unknown_attempts_of(engine, query)
            show_unknown(unknown, is_csv=arguments.csv, is_json=arguments.json)
        elif arguments.attempts:
            attempts = attempt_sums(engine, query)
            show_attempts(attempts, is_csv=arguments.csv, is_json=arguments.json)
        else:
            by = arguments.by or _DEFAULT_BY
            sums = usage_sums(engine, query, by)
            # A gateway may write meanwhile, so that the books are asked again only where they must.
            total = usage_sums(engine, query)[0] if "tag" in by else add_up(sums)
            report = Report(by=by, query=query, sums=sums, total=total, key_names=names)
            show_requests(report, is_csv=arguments.csv, is_json=arguments.json)
    finally:
        engine.dispose()
    return OK


def _refuse_together(arguments: Namespace) -> None:
    """What would be passed over is refused."""
    if arguments.csv and arguments.json:
        raise Stop("--csv and --json: choose one of them", WRONG_USAGE)
    if arguments.attempts and arguments.unknown:
        raise Stop("--attempts and --unknown: choose one of them", WRONG_USAGE)
    if arguments.attempts or arguments.unknown:
        for name in _OF_REQUESTS:
            if getattr(arguments, name) is not None:
                raise Stop(f"--{name} is about requests of callers, not attempts", WRONG_USAGE)


def _query(
    arguments: Namespace, settings: Settings, names: Mapping[str, str], now: float
) -> UsageQuery:
    since = arguments.since(now) if arguments.since else None
    until = arguments.until(now) if arguments.until else None
    if since is not None and until is not None and since >= until:
        raise Stop("--since is not before --until", WRONG_USAGE)
    model = arguments.model
    if model is not None:
        model = look_around(settings, load_catalog()).directory.canonical(model)
    return UsageQuery(
        since_ms=since,
        until_ms=until,
        key_id=_key_id(arguments.key, names),
        project=arguments.project,
        model=model,
        provider=arguments.provider,
        user=arguments.user,
        tag=arguments.tag,
    )


def _key_id(wanted: str | None, names: Mapping[str, str]) -> str | None:
    """The id that is meant. What is no key of ours may still stand in the books, as `open` does."""
    if wanted is None or wanted in names:
        return wanted
    called = [id for id, name in names.items() if name == wanted]
    if len(called) > 1:
        raise Stop(f"--key: {len(called)} keys are called {wanted!r}; give the id", WRONG_USAGE)
    return called[0] if called else wanted


def _groups(text: str) -> tuple[Group, ...]:
    names = [part.strip() for part in text.split(",")]
    known = tuple(group for name in names for group in GROUPS if group == name)
    if len(known) < len(names) or len(set(known)) < len(known):
        raise ArgumentTypeError(f"{text!r} is no list of {', '.join(GROUPS)}, each once at most")
    return known


def _text(text: str) -> str:
    """Bytes that are no UTF-8 match nothing, and no database takes them; nor does PostgreSQL NUL,
    which no shell passes on."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ArgumentTypeError("is not UTF-8") from None
    return text
