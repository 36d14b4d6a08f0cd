"""Where the clients are installed, and how one of their scripts is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest

HERE = Path(__file__).parent
_VENV = HERE.parents[1] / ".venv-clients"
_REMEDY = "run scripts/test without --fast"


def script(name: str) -> list[str]:
    """The command that runs a script of this folder, such as `python/openai_python.py`."""
    if name.endswith(".mjs"):
        return [node(), str(HERE / name)]
    return [python(), str(HERE / name)]


def python() -> str:
    """The Python that has the clients. Skips where there is none."""
    if not (_VENV / "clients.stamp").is_file():
        _absent(f"the Python clients are not installed: {_REMEDY}")
    return str(_VENV / "bin" / "python")


def node() -> str:
    """The Node for the JavaScript clients. Skips where they are not installed."""
    stamp = _VENV / "node.stamp"
    if not stamp.is_file():
        _absent(f"the JavaScript clients are not installed, or there is no Node 22: {_REMEDY}")
    return stamp.read_text("utf-8").splitlines()[0]


def curl() -> str:
    """The machine's curl. Skips where there is none."""
    program = shutil.which("curl")
    if program is None:
        _absent("there is no curl")
    return program


def clean_environment(home: Path) -> dict[str, str]:
    """The environment of a client: no credentials, telemetry or downloads; a home of its own."""
    tokenizers = next(_VENV.glob("lib/python3.*/site-packages/litellm/litellm_core_utils"), _VENV)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        # litellm carries the cl100k vocabulary, which tiktoken would download.
        "TIKTOKEN_CACHE_DIR": str(tokenizers / "tokenizers"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "MEM0_TELEMETRY": "False",
        "DO_NOT_TRACK": "1",
    }


def run(command: list[str], question: dict[str, Any], home: Path) -> dict[str, Any]:
    """Give a script its question on standard input; its answers, one for each of its cases."""
    done = subprocess.run(
        command,
        input=json.dumps(question),
        capture_output=True,
        encoding="utf-8",
        env=clean_environment(home),
        cwd=home,
        timeout=55,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{command[1]} ended with {done.returncode}:\n{done.stderr}")
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def _absent(what: str) -> NoReturn:
    """Skip the test for the reason *what*; in CI, where nothing may be missing, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)
