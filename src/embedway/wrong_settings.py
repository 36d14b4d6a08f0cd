"""What is wrong with a setting: where it came from, its name, and the nearest known one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from embedway.secret import Secret
from embedway.settings import Settings


class SettingsError(ValueError):
    """A setting is wrong. The message names it, where it came from, and what to do."""


def decode_secret(kind: type, value: Any) -> Any:
    """msgspec's hook for `Secret` fields."""
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError(f"Expected `str`, got `{type(value).__name__}`")


def explain(message: str, tree: dict[str, Any], origins: dict[str, str]) -> str:
    """Say where the wrong value stands; for an unknown name, the nearest known one."""
    path = match[1] if (match := re.search(r"at `\$\.([^`]*)`", message)) else ""
    path = _name_field(_name_entry(path, tree))
    text = message.split(" - at ")[0]
    if unknown := re.search(r"unknown field `([^`]+)`", message):
        name = f"{path}.{unknown[1]}".lstrip(".")
        return f"{_origin(name, origins)}: {name}: no such setting{_nearest_field(name, path)}"
    return f"{_origin(path, origins)}: {path}: {text}"


def _name_entry(path: str, tree: Mapping[str, Any]) -> str:
    """The path with the name of the wrong account or alias, where msgspec only says `[...]`."""
    table, is_entry, rest = path.partition("[...]")
    if not is_entry or table not in ("providers", "models"):
        return path
    kinds = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    kind = get_args(kinds[table])[-1]

    def is_wrong(entry: Any) -> bool:
        try:
            msgspec.convert(entry, kind, strict=False, dec_hook=decode_secret)
        except msgspec.ValidationError:
            return True
        return False

    name = next((name for name, entry in tree[table].items() if is_wrong(entry)), "")
    return f"{table}.{name}{rest}"


def _name_field(path: str) -> str:
    """The path as far as the field: which item of it is wrong, msgspec rarely says. Entries of a
    list of tables are counted from one, as people do."""
    if entry := re.match(r"(oidc)\[(\d+)\]([^\[]*)", path):
        return f"{entry[1]}[{int(entry[2]) + 1}]{entry[3]}"
    return path.partition("[")[0]


def _origin(name: str, origins: dict[str, str]) -> str:
    name = name.partition("[")[0]
    for known, origin in origins.items():
        if known == name or known.startswith(f"{name}.") or name.startswith(f"{known}."):
            return origin
    return "settings"


def _nearest_field(name: str, path: str) -> str:
    top = re.split(r"[.\[]", path)[0]
    fields: list[str] = list(Settings.__struct_fields__)
    if path:
        kind = {field.name: field.type for field in msgspec.structs.fields(Settings)}.get(top)
        inner = next((arg for arg in get_args(kind) if hasattr(arg, "__struct_fields__")), kind)
        fields = list(getattr(inner, "__struct_fields__", fields))
    return nearest(name.rpartition(".")[2], fields)


def nearest(name: str, known: Any) -> str:
    """A hint at the known name that *name* may be a slip for, or nothing."""
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {close[0]}?" if close else ""
