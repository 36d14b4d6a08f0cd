"""The samples printed on the two products' pages, with base URL and key changed, and the model.

Each runs twice: with the local model, and as printed, answered by an account at a (fake) OpenAI.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tests.clients.environments import HERE, clean_environment, curl, node, run, script
from tests.clients.fake_openai import fake_vector
from tests.clients.gateways import MODEL, Gateway
from tests.clients.reference import Reference
from tests.clients.samples import Sample, load_samples

Variant = Literal["local", "printed"]

SAMPLES = {sample.name: sample for sample in load_samples()}
BEACH = ["Sunny day at the beach"]
HELLO = ["Hello world"]
FOX = ["The quick brown fox jumps over the lazy dog."]
DOCUMENTS = ["First document", "Second document", "Third document"]
QUESTION = "What is machine learning?"
FACTS = [
    "Machine learning is a subset of AI.",
    "The weather is nice today.",
    "Neural networks learn from data.",
]

# Sample: its texts, and the width with the model as printed.
EXPECTED = {
    "ai-gateway-typescript-1": (BEACH, 1536),
    "ai-gateway-typescript-2": (BEACH, 768),
    "ai-gateway-python-1": (BEACH, 1536),
    "ai-gateway-python-2": (BEACH, 768),
    "gateflow-bash-1": (HELLO, 1536),
    "gateflow-bash-2": (FOX, 1536),
    "gateflow-python-1": (HELLO, 1536),
    "gateflow-python-2": (FOX, 1536),
    "gateflow-python-3": (DOCUMENTS, 1536),
    "gateflow-python-4": (HELLO, 256),
    "gateflow-python-5": ([QUESTION, *FACTS], 1536),
    "gateflow-python-6": (HELLO, 1536),
    "gateflow-python-7": (HELLO, 1536),
    "gateflow-typescript-1": (HELLO, 1536),
    "gateflow-typescript-2": (FOX, 1536),
}
NOT_EMBEDDINGS = {
    "gateflow-python-8": "asks for chat completions",
    "gateflow-python-9": "asks nothing of the gateway: it clusters vectors it has",
}
# The local model has no 768 dimensions: these two run as printed, and say so with the local one.
TOO_WIDE = ("ai-gateway-typescript-2", "ai-gateway-python-2")


def names(language: str) -> list[str]:
    """The samples that ask for embeddings in this language."""
    return [name for name in EXPECTED if f"-{language}-" in name]


def runs(language: str) -> list[Any]:
    """Each sample, twice, but for what the local model cannot do."""
    variants: tuple[Variant, ...] = ("local", "printed")
    return [
        pytest.param(name, variant, id=f"{name}-{variant}")
        for name in names(language)
        for variant in variants
        if variant == "printed" or name not in TOO_WIDE
    ]


def ready(sample: Sample, keyed: Gateway, variant: Variant) -> str:
    """The code to run."""
    return sample.ready(keyed.url, str(keyed.key), MODEL if variant == "local" else None)


def check(name: str, variant: Variant, vectors: Any, reference: Reference) -> None:
    """Fail unless the sample got the vectors of its texts."""
    texts, width = EXPECTED[name]
    if variant == "local":
        reference.check(vectors, texts)
    else:
        rows = [fake_vector(text, width) for text in texts]
        assert np.array_equal(np.asarray(vectors, np.float32), np.stack(rows))


@pytest.fixture(scope="module")
def answers(keyed: Gateway, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of the Python samples, by name and variant; one process for all."""
    variants: tuple[Variant, ...] = ("local", "printed")
    codes = {
        f"{name}-{variant}": ready(SAMPLES[name], keyed, variant)
        for name in names("python")
        for variant in variants
    }
    question = {"samples": codes, "key": keyed.key}
    return run(script("python/samples.py"), question, tmp_path_factory.mktemp("samples"))


def test_every_sample_runs() -> None:
    """Each sample on the two pages is run here, or is none of embeddings."""
    assert set(SAMPLES) == {*EXPECTED, *NOT_EMBEDDINGS}


@pytest.mark.parametrize(("name", "variant"), runs("python"))
def test_python_sample(
    name: str, variant: Variant, answers: dict[str, Any], reference: Reference
) -> None:
    """A printed Python sample gets the vectors of its texts, and prints what the page says."""
    answer = answers[f"{name}-{variant}"]
    check(name, variant, answer["vectors"], reference)
    width = 256 if variant == "local" else 1536
    if name == "gateflow-python-2":
        assert answer["printed"] == f"Dimensions: {width}\n"
    if name == "gateflow-python-3":
        lines = [f"Document {i}: {width} dimensions\n" for i in range(3)]
        assert answer["printed"] == "".join(lines)


def test_similarity_sample_finds_the_right_document(answers: dict[str, Any]) -> None:
    """The printed search finds, with the local model, the text that answers its question."""
    printed = answers["gateflow-python-5-local"]["printed"]
    assert printed == "Most similar: document 0\n"


def test_sample_asks_for_too_many_dimensions(answers: dict[str, Any]) -> None:
    """The printed 768 dimensions are refused by a model of 256, which names what it has."""
    error = answers["ai-gateway-python-2-local"]["error"]
    assert (error["status_code"], error["code"]) == (400, "unsupported_dimensions")
    assert "64, 128 or 256" in error["text"]


@pytest.mark.parametrize(("name", "variant"), runs("typescript"))
def test_typescript_sample(
    name: str, variant: Variant, keyed: Gateway, reference: Reference, tmp_path: Path
) -> None:
    """A printed TypeScript sample, run by Node as it is, gets the vectors of its texts."""
    code = ready(SAMPLES[name], keyed, variant)
    code += "\nconsole.log(JSON.stringify(response.data.map((item) => item.embedding)));\n"
    done = subprocess.run(
        [node(), "--input-type=module-typescript", "-"],
        input=code,
        capture_output=True,
        encoding="utf-8",
        cwd=HERE / "node",  # where the packages are
        env={**clean_environment(tmp_path), "AI_GATEWAY_API_KEY": str(keyed.key)},
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check(name, variant, json.loads(done.stdout.splitlines()[-1]), reference)


@pytest.mark.parametrize(("name", "variant"), runs("bash"))
def test_curl_sample(
    name: str, variant: Variant, keyed: Gateway, reference: Reference, tmp_path: Path
) -> None:
    """A printed curl command, run by the shell as it is, gets the vectors of its texts."""
    curl()
    done = subprocess.run(
        ["sh", "-c", ready(SAMPLES[name], keyed, variant)],
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
        timeout=30,
        check=True,
    )
    answer = json.loads(done.stdout)
    check(name, variant, [item["embedding"] for item in answer["data"]], reference)
