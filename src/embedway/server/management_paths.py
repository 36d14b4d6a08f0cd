"""The management routes of `/openapi.json`."""

from __future__ import annotations

from typing import Any

from embedway.server.management_answers import ROOT
from embedway.server.operations import WITH_BODY, WITH_KEY, operation, parameter
from embedway.store.usage import GROUPS
from embedway.vector_files import MEDIA_TYPE

_ID = parameter("id", "path", "0123456789ab", about="The key's id.")
_OWNER = [
    parameter("owner_kind", "path", "project", enum=["key", "project"]),
    parameter("owner", "path", "default", about="The key's id, or the project's name."),
    parameter("period", "path", "month", enum=["day", "month", "total"]),
]
_GROUP = f"({'|'.join(GROUPS)})"


def management_paths() -> dict[str, Any]:
    """All of them. Each is for admins alone."""
    paths = {
        **_key_paths(),
        **_budget_paths(),
        **_usage_paths(),
        **_state_paths(),
        **_cache_paths(),
    }
    return {f"{ROOT}/{path}": methods for path, methods in paths.items()}


def _key_paths() -> dict[str, Any]:
    return {
        "api-keys": operation("get", "List keys", "KeyList", errors=WITH_KEY)
        | operation(
            "post",
            "Make a key",
            "NewKey",
            body="NewKeyBody",
            errors=WITH_BODY,
            about="The answer holds its text, this once. The first key closes a server that was "
            "open to its own machine.",
        ),
        "api-keys/{id}": operation("get", "Show a key", "KeyRecord", [_ID], errors=(*WITH_KEY, 404))
        | operation(
            "delete",
            "Revoke a key",
            "KeyRecord",
            [_ID],
            errors=(*WITH_KEY, 404),
            about="At once and for good; other processes refuse it within a second. It stays "
            "listed.",
        ),
        "api-keys/{id}/rotate": operation(
            "post",
            "Give a key another text",
            "NewKey",
            [_ID],
            body="RotateBody",
            errors=(*WITH_BODY, 404),
            about="The key stays what it is, with its terms and budgets; the old text works for a "
            "while beside the new one.",
        ),
    }


def _budget_paths() -> dict[str, Any]:
    return {
        "projects": operation(
            "get", "Projects, and what they spend", "ProjectList", errors=WITH_KEY
        ),
        "budgets": operation("get", "Budgets, and what is left", "BudgetList", errors=WITH_KEY),
        "budgets/{owner_kind}/{owner}/{period}": operation(
            "put",
            "Set a budget",
            "BudgetRecord",
            _OWNER,
            body="BudgetBody",
            errors=(*WITH_BODY, 404),
            about="In place of the one there is, if any: what is spent stays spent.",
        )
        | operation(
            "delete",
            "Remove a budget",
            "DeletedBudget",
            _OWNER,
            errors=(*WITH_KEY, 404),
            about="With the count of what was spent of it.",
        ),
    }


def _usage_paths() -> dict[str, Any]:
    shared = [
        _filter("since", "2026-11-01", "A day of UTC or a moment: the first that counts."),
        _filter("until", "2026-11-30", "A day, which counts to its end, or a moment."),
        _filter("key", "0123456789ab", "The key's id."),
        _filter("project", "default"),
        _filter("model", "openai/text-embedding-3-small", "By any of its names."),
        _filter("provider", "openai", "The account that served."),
        _filter("status", "200", "The HTTP status.", pattern="^[1-5][0-9][0-9]$"),
    ]
    shape = [
        _filter("user", "jane"),
        _filter("tag", "nightly"),
        _filter(
            "by",
            "model,day",
            "What to group by, in that order.",
            pattern=f"^{_GROUP}(,{_GROUP})*$",
        ),
        _filter("format", "csv", "In place of the Accept header.", enum=["json", "csv"]),
    ]
    return {
        "usage": operation(
            "get",
            "What was asked, and what it cost",
            "UsageAnswer",
            [*shared, *shape],
            text_type="text/csv",
            errors=WITH_KEY,
            about="Requests of callers. One with several tags counts under each of them.",
        ),
        "usage/attempts": operation(
            "get",
            "What was sent to providers",
            "AttemptsAnswer",
            shared,
            errors=WITH_KEY,
            about="By what is known of its bill.",
        ),
        "usage/attempts/unknown": operation(
            "get",
            "Requests to providers that may have been billed",
            "UnknownAttemptList",
            shared,
            errors=WITH_KEY,
            about="Each by itself, to be looked for on the provider's bill.",
        ),
    }


def _filter(name: str, example: str, about: str = "", **schema: Any) -> dict[str, Any]:
    return parameter(name, "query", example, 256, is_required=False, about=about, **schema)


def _state_paths() -> dict[str, Any]:
    return {
        "providers": operation(
            "get",
            "Accounts at providers",
            "ProviderList",
            errors=WITH_KEY,
            about="How each fares in this process: breaker, head-room, latency, last error.",
        ),
        "settings": operation(
            "get",
            "Settings in effect",
            "SettingList",
            errors=WITH_KEY,
            about="With the origin of each; secrets are stars. They are set in embedway.toml, the "
            "environment or on the command line, not here.",
        ),
    }


def _cache_paths() -> dict[str, Any]:
    choice = [
        _filter("model", "openai/text-embedding-3-small"),
        parameter("space", "query", "openai/text-embedding-3-small@1536", 512, is_required=False),
        _filter("project", "default"),
    ]
    return {
        "cache": operation(
            "get",
            "What the cache holds",
            "CacheStats",
            errors=WITH_KEY,
            about="By model, space and project.",
        ),
        "cache/purge": operation(
            "post",
            "Forget cached vectors",
            "Purged",
            body="PurgeBody",
            errors=WITH_BODY,
            about="In memory and in the store; other processes forget them within two seconds.",
        ),
        "cache/export": operation(
            "get",
            "Download cached vectors",
            parameters=choice,
            media_type=MEDIA_TYPE,
            errors=(*WITH_KEY, 404),
            about="A line of JSON each, with all that is known of it.",
        ),
        "cache/warm": operation(
            "post",
            "Upload exported vectors",
            "Warmed",
            body="KeptVector",
            lines_type=MEDIA_TYPE,
            errors=(*WITH_BODY, 404),
            about="Lines as they were downloaded. If one of them is wrong, none is stored.",
        ),
    }
