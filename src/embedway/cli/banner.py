"""What `embedway serve` prints once it takes requests."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

from embedway import __version__
from embedway.catalog import Catalog
from embedway.cli.credentials import describe_credential
from embedway.cli.served import Served, look_around
from embedway.gateway import LOCAL_MODEL
from embedway.origins import Origins
from embedway.settings import CREDENTIAL_NAMES, Settings

_INDENT = "  "
_SHOWN_VARIABLES = 4


def banner(
    loaded: Origins, catalog: Catalog, *, url: str, is_open: bool, keys: int, command: str
) -> str:
    """The lines for people.

    url: where the gateway listens, without a slash at its end. keys: how many are active.
    command: how this command line is called from here.
    """
    settings = loaded.settings
    served = look_around(settings, catalog)
    states = [*_local(served, catalog), *_accounts(loaded, served)]
    auth = "off, loopback only" if is_open else f"on ({_count(keys, 'key')})"
    facts = [
        ("store", str(settings.home_path / "embedway.db")),
        ("cache", _cache(settings)),
        ("auth", auth),
        ("docs", f"{url}/docs"),
        ("metrics", f"{url}/metrics"),
    ]
    title = f"embedway {__version__} — embeddings gateway"
    return "\n".join(
        [
            f"{title:<48}  {url}",
            *_aligned(states),
            *_aligned(facts),
            *(f"{_INDENT}note: {note}" for note in loaded.notes),
            "",
            *_first_steps(settings.local.enabled, url, command, is_open=is_open),
        ]
    )


def command_name(started_as: str) -> str:
    """What to type for this command line: its name where the shell finds it, else its path.

    started_as: the path of the running program.
    """
    if shutil.which("embedway"):
        return "embedway"
    path = Path(started_as)
    is_here = path.is_absolute() and path.is_relative_to(Path.cwd())
    return shlex.quote(str(path.relative_to(Path.cwd()) if is_here else path))


def record(
    loaded: Origins, catalog: Catalog, *, url: str, is_open: bool, keys: int
) -> dict[str, Any]:
    """The same for scripts, which wait for this line."""
    served = look_around(loaded.settings, catalog)
    return {
        "url": url,
        "version": __version__,
        "models": sorted(served.accounts),
        "store": str(loaded.settings.home_path / "embedway.db"),
        "auth": {"open": is_open, "keys": keys},
        "notes": loaded.notes,
    }


def _local(served: Served, catalog: Catalog) -> list[tuple[str, str]]:
    if LOCAL_MODEL not in served.accounts:
        return [(LOCAL_MODEL, "off    local.enabled is false")]
    found = catalog.find(LOCAL_MODEL)
    assert found is not None, "the catalogue holds the local model"
    dimensions = found.model.dimensions.default
    return [(LOCAL_MODEL, f"ready  {dimensions} dims · in-process · offline · free (demo quality)")]


def _accounts(loaded: Origins, served: Served) -> list[tuple[str, str]]:
    """A line for each account, and one for all providers without one."""
    accounts = loaded.settings.providers
    states = []
    for name, account in accounts.items():
        credential = describe_credential(name, account, loaded) or "no credential"
        models = _count(len(served.models_of(name)), "model")
        states.append((name, f"ready  {credential} · {models}"))
    missing = [names[0] for name, names in CREDENTIAL_NAMES.items() if name not in accounts]
    if missing:
        more = ", …" if len(missing) > _SHOWN_VARIABLES else ""
        shown = ", ".join(missing[:_SHOWN_VARIABLES])
        label = "others" if accounts else "providers"
        states.append((label, f"no key — set {shown}{more}"))
    return states


def _cache(settings: Settings) -> str:
    """Where vectors are kept."""
    cache = settings.cache
    if not cache.enabled:
        return "off"
    memory = f"{cache.memory_bytes // 2**20} MiB in memory"
    if settings.redis_url is not None:
        return f"{memory}, Redis"
    if not cache.disk_bytes:
        return memory
    return f"{memory}, {cache.disk_bytes // 2**20} MiB in {settings.home_path / 'vectors.db'}"


def _first_steps(is_local: bool, url: str, command: str, *, is_open: bool) -> list[str]:
    export = f"export OPENAI_BASE_URL={url}/v1"
    steps = [(export, "any OpenAI client now uses embedway")]
    if not is_open:
        steps.append(("export OPENAI_API_KEY=gw_…", f"a key of '{command} keys create NAME'"))
    if is_local:
        steps.append((f'{command} embed "Sunny day at the beach"', "a first vector, no key needed"))
    width = max(len(command) for command, _ in steps)
    return [f"{_INDENT}{command:<{width}}   # {comment}" for command, comment in steps]


def _aligned(pairs: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in pairs)
    return [f"{_INDENT}{name:<{width}}  {value}" for name, value in pairs]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
