"""The pages say what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from embedway.errors import EmbedError
from embedway.settings import AccountSettings, ModelSettings, OidcSettings, Settings

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)|<((?:docs|src|tests)/[^>\s]+)>")


def page(name):
    """The text of a page."""
    return (ROOT / "docs" / name).read_text("utf-8")


@pytest.mark.parametrize("name", ["settings", "providers"])
def test_generated_pages(name):
    """A page that is generated is what its generator writes today; run `scripts/<name>-page`."""
    command = [sys.executable, str(ROOT / "scripts" / f"{name}-page"), "--print"]
    written = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout

    assert page(f"{name}.md") == written


def settings():
    """(table, field) of every setting."""
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from ((field.name, inner) for inner in msgspec.structs.fields(field.type))
        elif field.name == "home":
            yield "", field
    yield from (("providers.NAME", field) for field in msgspec.structs.fields(AccountSettings))
    yield from (("models.NAME", field) for field in msgspec.structs.fields(ModelSettings))
    yield from (("[oidc]", field) for field in msgspec.structs.fields(OidcSettings))


@pytest.mark.parametrize(("table", "field"), list(settings()), ids=lambda v: getattr(v, "name", v))
def test_settings(table, field):
    """Every setting stands in its table with a meaning that ends in a full stop, and its variable
    where it has one."""
    text = page("settings.md")
    if table:
        text = text.partition(f"## `[{table}]`")[2].partition("\n## ")[0]
    (row,) = re.findall(rf"^\| `{field.name}` \|(.*)\|$", text, re.MULTILINE)

    assert re.search(r"[A-Za-z`].*\.$", row.rpartition("|")[2].strip())
    if "." not in table and "[" not in table:
        assert f"EMBEDWAY_{table}_{field.name}".upper().replace("__", "_") in row


def classes(kind):
    """The class and everything below it."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == "embedway.errors":
            yield from classes(child)


@pytest.mark.parametrize("kind", sorted(set(classes(EmbedError)), key=lambda k: k.__name__))
def test_errors(kind):
    """Every code stands on the page of errors, with the status and the type that callers see."""
    rows = re.findall(r"^\| (\d+) \| (\w+) \| `(\w+)` \|", page("errors.md"), re.MULTILINE)
    mine = [(int(status), type_) for status, type_, code in rows if code == kind.code]

    assert mine, f"{kind.code} is not described"
    # A class with others below it is raised as one of those.
    assert (kind.status, kind.type) in mine or kind.__subclasses__()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(path):
    """Every link to a file of this project leads to one."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    for targets in LINK.findall(text):
        target = (targets[0] or targets[1]).partition("#")[0]
        if not target or re.match(r"[a-z]+:", target):
            continue
        base = ROOT if targets[1] else path.parent
        assert (base / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_anchors(path):
    """Every link to a heading of a page leads to one."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    for target, _ in LINK.findall(text):
        file, mark, anchor = target.partition("#")
        if not mark or re.match(r"[a-z]+:", target) or target.startswith("/"):
            continue
        other = (path.parent / file) if file else path
        headings = re.findall(r"^#+ (.+)$", other.read_text("utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
        assert anchor in slugs, f"{path.name} links to {target}"
