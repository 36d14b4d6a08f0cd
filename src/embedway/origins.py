"""Reads the settings: defaults, then the file, then the environment, then the command line.

Keeps beside each value where it came from, for `embedway config show --origin`. This is the only
module that reads the environment. `OPENAI_BASE_URL` is never read: it points our callers at us,
and an upstream that followed it would call itself.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

import msgspec
from msgspec import Struct

from embedway.secret import Secret
from embedway.settings import (
    CREDENTIAL_NAMES,
    AccountSettings,
    ServerSettings,
    Settings,
)
from embedway.wrong_settings import SettingsError, decode_secret, explain, nearest

PREFIX = "EMBEDWAY_"
DEFAULT = "default"
_FREE = ["providers", "models"]
"""Tables whose entries the operator names."""
_LISTS = ["oidc"]
"""Lists of tables. They and the tables above are set in the file alone."""
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class Origins(Struct, frozen=True, kw_only=True):
    """The settings with the origin of every value that is not a default."""

    settings: Settings
    origins: dict[str, str]
    """Dotted name to origin: a file's path, `environment NAME`, or `command line`."""
    notes: tuple[str, ...] = ()
    """What the operator should be told at start."""

    def origin(self, name: str) -> str:
        """Where the value of the dotted *name* came from; a list comes as a whole."""
        name = name.partition("[")[0]
        while name:
            if name in self.origins:
                return self.origins[name]
            name = name.rpartition(".")[0]
        return DEFAULT


def load_settings(
    *,
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    platform: str = sys.platform,
    folder: Path | None = None,
) -> Origins:
    """Read all settings.

    config: a file that must exist; without it `./`, the user's and the system's folder are tried.
    overrides: dotted names to text, from the command line.
    Raises SettingsError.
    """
    environ = os.environ if environ is None else environ
    origins: dict[str, str] = {}
    tree: dict[str, Any] = {"home": str(data_folder(environ, platform))}
    named = config or (Path(environ["EMBEDWAY_CONFIG"]) if "EMBEDWAY_CONFIG" in environ else None)
    path = named or _first_file(environ, folder or Path.cwd())
    if path is not None:
        _merge(tree, _expand(_read_file(path), environ, str(path)), str(path), origins)
        _refuse_non_tables(tree, path)
    _apply_environment(tree, environ, origins)
    for name, text in (overrides or {}).items():
        _assign(tree, name, text, "command line", origins)
    notes = _apply_credentials(tree, environ, origins)
    return Origins(settings=_convert(tree, origins), origins=origins, notes=notes)


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of settings; an empty table is a value itself. Where there may be
    many tables of one name, each has its number in it."""
    if isinstance(value, Struct):
        value = {field: getattr(value, field) for field in value.__struct_fields__}
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else str(key))
    elif name in _LISTS and value:
        for number, inner in enumerate(value, 1):
            yield from flatten(inner, f"{name}[{number}]")
    else:
        yield name, value


def data_folder(environ: Mapping[str, str], platform: str) -> Path:
    """The platform's folder for a user's data, as the XDG base directory page and its like say."""
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or "~").expanduser()
    if platform == "darwin":
        return home / "Library" / "Application Support" / "embedway"
    if platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "embedway"
    return Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "embedway"


def is_colour_wanted(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the terminal may be coloured (https://no-color.org)."""
    return not (os.environ if environ is None else environ).get("NO_COLOR")


def _first_file(environ: Mapping[str, str], folder: Path) -> Path | None:
    home = Path(environ.get("HOME") or "~").expanduser()
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    for candidate in (folder, user / "embedway", Path("/etc/embedway")):
        if (path := candidate / "embedway.toml").is_file():
            return path
    return None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None


def _expand(value: Any, environ: Mapping[str, str], where: str) -> Any:
    """Replace `${NAME}` and `${NAME:-default}` in every text of *value*."""
    if isinstance(value, dict):
        return {key: _expand(inner, environ, f"{where}: {key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, environ, where) for inner in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name, default = match.groups()
        if (text := environ.get(name) or default) is None:
            raise SettingsError(f"{where}: the environment variable {name} is not set")
        return text

    return _REFERENCE.sub(variable, value)


def _merge(
    tree: dict[str, Any], new: dict[str, Any], origin: str, origins: dict[str, str], at: str = ""
) -> None:
    for key, value in new.items():
        if isinstance(value, dict):
            inner = tree.setdefault(key, {})
            if isinstance(inner, dict):
                _merge(inner, value, origin, origins, f"{at}{key}.")
                continue
        tree[key] = value
        origins[f"{at}{key}"] = origin


def _refuse_non_tables(tree: Mapping[str, Any], path: Path) -> None:
    """What comes next puts values into the tables, so that they must be tables."""
    for name in dict.fromkeys([section for section, _, _ in _sections() if section] + _FREE):
        if not isinstance(tree.get(name, {}), dict):
            raise SettingsError(f"{path}: {name}: must be a table, [{name}]")
    for name in _LISTS:
        if not isinstance(tree.get(name, []), list):
            raise SettingsError(f"{path}: {name}: must be a list of tables, [[{name}]]")


def _sections() -> Iterator[tuple[str, str, Any]]:
    """(section, field, type) of every setting outside the free tables; section may be ''."""
    for field in msgspec.structs.fields(Settings):
        inner = field.type
        if isinstance(inner, type) and issubclass(inner, Struct):
            for sub in msgspec.structs.fields(inner):
                yield field.name, sub.name, sub.type
        elif field.name not in _FREE + _LISTS:
            yield "", field.name, inner


def _apply_environment(
    tree: dict[str, Any], environ: Mapping[str, str], origins: dict[str, str]
) -> None:
    known = {"EMBEDWAY_CONFIG"}
    if port := environ.get("PORT"):  # the 12-factor name that hosting platforms set
        host = _host(str(tree.get("server", {}).get("listen", ServerSettings().listen)))
        _assign(tree, "server.listen", f"{host}:{port}", "environment PORT", origins)
    for section, name, kind in _sections():
        variable = PREFIX + (f"{section}_" if section else "").upper() + name.upper()
        known.add(variable)
        if (text := environ.get(variable)) is not None:
            value: Any = text
            if get_origin(getattr(kind, "__origin__", kind)) is tuple:
                value = [part.strip() for part in text.split(",") if part.strip()]
            dotted = f"{section}.{name}" if section else name
            _assign(tree, dotted, value, f"environment {variable}", origins)
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known:
            raise SettingsError(f"{variable}: no such setting{nearest(variable, known)}")


def _host(listen: str) -> str:
    """The address without its port, which may be missing; a bare IPv6 one gets its brackets."""
    if listen.count(":") > 1 and not listen.startswith("["):
        return f"[{listen}]"
    return re.sub(r":[0-9]*$", "", listen)


def _assign(
    tree: dict[str, Any], name: str, value: Any, origin: str, origins: dict[str, str]
) -> None:
    section, _, field = name.rpartition(".")
    target = tree.setdefault(section, {}) if section else tree
    target[field] = value
    origins[name] = origin


def _apply_credentials(
    tree: dict[str, Any], environ: Mapping[str, str], origins: dict[str, str]
) -> tuple[str, ...]:
    """Accounts from the variables the providers' SDKs read, where the file has none."""
    notes: list[str] = []
    accounts = tree.setdefault("providers", {})
    for provider, names in CREDENTIAL_NAMES.items():
        found = [name for name in names if environ.get(name)]
        if not found or provider in accounts:
            continue
        accounts[provider] = {"api_key": environ[found[0]]}
        origins[f"providers.{provider}.api_key"] = f"environment {found[0]}"
        notes.extend(f"{name} is ignored: {found[0]} is set too" for name in found[1:])
    return tuple(notes)


def _convert(tree: dict[str, Any], origins: dict[str, str]) -> Settings:
    try:
        settings = msgspec.convert(tree, Settings, strict=False, dec_hook=decode_secret)
    except msgspec.ValidationError as error:
        raise SettingsError(explain(str(error), tree, origins)) from None
    accounts = {name: _with_file(name, a) for name, a in settings.providers.items()}
    for name, account in accounts.items():
        if account.api_key is not None and not account.api_key.reveal():
            raise SettingsError(f"providers.{name}.api_key is empty; set it or leave it out")
    return msgspec.structs.replace(settings, providers=accounts)


def _with_file(name: str, account: AccountSettings) -> AccountSettings:
    """The account with its credential read from `api_key_file`, if that is set."""
    if account.api_key_file is None:
        return account
    if account.api_key is not None:
        raise SettingsError(f"providers.{name}: set api_key or api_key_file, not both")
    try:
        text = Path(account.api_key_file).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"providers.{name}.api_key_file: cannot be read: {reason}") from None
    return msgspec.structs.replace(account, api_key=Secret(text))
