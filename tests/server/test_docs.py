from __future__ import annotations

import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from embedway.server.error_codes import MEANINGS
from embedway.server.openapi import build_document

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=5000",
    "--enable-logging=stderr",
    "--dump-dom",
)


def browser() -> str:
    """The path of a Chromium. Skips the test where there is none, but fails it in CI."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    if os.environ.get("CI") == "true":
        pytest.fail("CI must have a Chromium")
    pytest.skip("no Chromium is installed")


@pytest.fixture(scope="module")
def page(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The page as a browser has it when its script is done, and the browser's log."""
    profile: Path = tmp_path_factory.mktemp("browser")
    ended = subprocess.run(
        [browser(), *FLAGS, f"--user-data-dir={profile}", f"{server_url}/docs#model_not_found"],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
        env={**os.environ, "HOME": str(profile)},
    )
    return ended.stdout, ended.stderr


def test_the_page_lists_every_route(page: tuple[str, str]) -> None:
    """A browser shows every route of the document with its method."""
    listed = [unescape(path) for path in re.findall(r'<code class="path">([^<]*)</code>', page[0])]
    paths = build_document()["paths"]
    assert listed == [path for path, methods in paths.items() for _ in methods]


def test_the_page_tells_every_field(page: tuple[str, str]) -> None:
    """The fields of the main route are there with type, limits and meaning, nested ones too."""
    for field in ("model", "input", "providerOptions.gateway.order", "gateflow.cache"):
        assert f"<code>{field}</code>" in page[0]
    assert "1 to 2048 items" in page[0]
    assert "openai: dimensions, user" in page[0]


def test_the_page_has_an_anchor_for_every_code(page: tuple[str, str]) -> None:
    """What `doc_url` of an error points at is there."""
    anchors = re.findall(r'<tr id="([a-z_]+)">', page[0])
    assert sorted(anchors) == sorted(MEANINGS)
    for _, advice in MEANINGS.values():
        assert advice in unescape(page[0])


def test_the_page_is_ready_to_be_copied_from(page: tuple[str, str], server_url: str) -> None:
    """The samples hold the address that the page was opened at and a model that is served."""
    text = unescape(page[0])
    assert f"export OPENAI_BASE_URL={server_url}/v1" in text
    assert f"curl {server_url}/v1/embeddings" in text
    assert 'client.embeddings.create(model="local/wordllama-256"' in text
    assert '<option value="local/wordllama-256">' in text
    assert re.findall(r'<option value="(\d+)">', text) == ["256", "64", "128"]


def test_the_page_has_no_error(page: tuple[str, str]) -> None:
    """The browser's console stays empty, and the page shows no failure of its own."""
    assert "CONSOLE" not in page[1]
    assert re.search(r'id="failure"[^>]* hidden', page[0])
