"""The direction of imports, and the fences with one gate each: docs/architecture.md, section 8."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "embedway"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")

BANNED_NAMES = {"utils", "helpers", "common", "base", "misc", "manager"}
ORDERED_ROWS = {0, 1, 3, 4}
"""A module of these may also import what stands to its left."""
SHARED = {
    "layers": set(),
    "providers": {"openai", "google"},
    "store": {
        "database",
        "ledger_rows",
        "ledger_work",
        "migrations",
        "postgres",
        "prepared",
        "rate_counts",
        "recovery",
        "redis_line",
        "redis_names",
        "redis_queue",
        "transactions",
        "usage_rows",
        "vector_file",
        "vector_queue",
        "vector_reader",
        "vector_rows",
        "vector_trouble",
        "vector_writer",
    },
}
"""What siblings in a folder may import of each other; `__init__` may import them all."""

# The gate of each fence: the modules that may import it, as a pattern. Nobody else may.
FENCES = {
    r"aiohttp|yarl|httpx2?|requests|urllib3|urllib\.request|http\.client": r"transport",
    r"sqlalchemy|sqlite3|redis|psycopg|aiosqlite": r"store\..*",
    r"starlette|uvicorn|fastapi|uvloop|httptools": r"server\..*",
    r"prometheus_client": r"metrics",
    r"time|datetime\.datetime\.now": r"clock",
    r"random": r"chance",
    r"uuid": r"-",
    r"secrets": r"store\.(keys|budgets)",
    r"wordllama|openai|cohere|boto3|tiktoken|pickle": r"-",
    r"botocore(\..*)?": r"aws_credentials",
    r"google\..*": r"service_account",
    r"tokenizers|safetensors": r"static_model",
    r"bpe_openai": r"tokens",
    r"limits": r"store\.rate_.*",
    r"pyarrow(\..*)?": r"cli\..*",
    r"(jwt|cryptography)(\..*)?": r"jwks",
}


def name_of(path):
    """`layers.meter` for src/embedway/layers/meter.py, `layers` for its `__init__`."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "__init__"


TREES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in SOURCE.rglob("*.py")}
MODULES = sorted(TREES)


def imports(tree):
    """The dotted names that a module imports, wherever in it, also for type checking only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(name):
    """The modules of ours that *name* imports."""
    for imported in imports(TREES[name]):
        if imported.startswith("embedway.") and imported[9:] in TREES:
            yield imported[9:]
        elif imported == "embedway":
            yield "__init__"


def rows():
    """Section 8's table: module, or folder with `/*`, to (row, position)."""
    block = PAGE.partition("## 8 ")[2].split("```")[1]
    found = {}
    for line in block.strip().splitlines():
        number, _, names = line.partition(" ")
        for position, name in enumerate(names.split("(")[0].split()):
            found[name.removesuffix("/*")] = (int(number), position)
    return found


ROWS = rows()


def place(name):
    """(row, position) of a module; the package itself and `__main__` are its ends."""
    if name in ("__init__", "__main__"):
        return (-1, 0) if name == "__init__" else (9, 0)
    folder = name.partition(".")[0]
    assert folder in ROWS, f"docs/architecture.md, section 8, does not say where {name} stands"
    return ROWS[folder]


@pytest.mark.parametrize("name", MODULES)
def test_direction(name):
    """A module imports from lower rows only; in the ordered rows also from its left."""
    row, position = place(name)
    folder = name.partition(".")[0]
    for imported in set(own_imports(name)) - {name}:
        their_row, their_position = place(imported)
        is_left = row == their_row and row in ORDERED_ROWS and their_position < position
        is_own_folder = "." in imported and imported.partition(".")[0] == folder
        is_own_row = row == their_row == 5
        assert their_row < row or is_left or is_own_folder or is_own_row, (
            f"{name} (row {row}) imports {imported} (row {their_row})"
        )


@pytest.mark.parametrize("folder", SHARED)
def test_siblings(folder):
    """Layers never import each other, providers and stores only what they share."""
    for name in MODULES:
        if name.partition(".")[0] == folder and "." in name:
            siblings = {
                i.partition(".")[2] for i in own_imports(name) if i.startswith(f"{folder}.")
            }
            assert siblings <= SHARED[folder], f"{name} imports {siblings - SHARED[folder]}"


def test_the_table_is_true():
    """Every module and folder that the page names exists."""
    known = {name.partition(".")[0] for name in MODULES}

    assert set(ROWS) <= known, set(ROWS) - known


def test_no_circle():
    """No two modules import each other, through however many others."""
    graph = {name: set(own_imports(name)) - {name} for name in MODULES}

    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize(("fenced", "gate"), list(FENCES.items()))
def test_fences(fenced, gate):
    """What is fenced off is imported by its gate and by nobody else."""
    for name in MODULES:
        if re.fullmatch(gate, name):
            continue
        for imported in imports(TREES[name]):
            found = re.fullmatch(rf"({fenced})(\..*)?", imported)
            assert not found, f"{name} imports {imported}"


@pytest.mark.parametrize(
    ("fenced", "gate"),
    [
        (r"os\.(environ|environb|getenv|putenv)", r"origins"),
        (r"(datetime|date)\.(now|utcnow|today)", r"-"),
        (r"asyncio\.sleep", r"clock"),
        (r"time\.(time|monotonic|sleep|perf_counter)(_ns)?", r"clock"),
    ],
)
def test_fenced_attributes(fenced, gate):
    """The environment and the time are read at their gates only."""
    for name in MODULES:
        used = {
            ast.unparse(node) for node in ast.walk(TREES[name]) if isinstance(node, ast.Attribute)
        }
        found = {attribute for attribute in used if re.fullmatch(fenced, attribute)}
        assert not found or re.fullmatch(gate, name), f"{name} uses {found}"


@pytest.mark.parametrize("name", MODULES)
def test_randomness_is_a_parameter(name):
    """Randomness is only ever the default of a parameter."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    defaults = {
        id(default)
        for node in ast.walk(TREES[name])
        if isinstance(node, functions)
        for default in (*node.args.defaults, *node.args.kw_defaults)
    }
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Attribute) and re.fullmatch(
            r"os\.urandom|secrets\..*|random\..*", ast.unparse(node)
        ):
            assert id(node) in defaults, f"{name}:{node.lineno} {ast.unparse(node)}"


@pytest.mark.parametrize("name", [n for n in MODULES if n.partition(".")[0] != "cli"])
def test_print(name):
    """Only the command line prints."""
    for node in ast.walk(TREES[name]):
        assert not (isinstance(node, ast.Name) and node.id == "print"), f"{name}:{node.lineno}"


@pytest.mark.parametrize("name", MODULES)
def test_names(name):
    """No module has a name under which everything finds a place."""
    assert not set(name.split(".")) & BANNED_NAMES


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    """Every module says what it is for; an empty one need not."""
    tree = TREES[name]

    assert not tree.body or ast.get_docstring(tree)


TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_state_their_laws(path):
    """Every test has a docstring of one sentence that states the law it guards."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if node.name.startswith("test_"):
            law = ast.get_docstring(node)
            assert law, f"{path.name}: {node.name} has no docstring"
            assert law.endswith("."), f"{path.name}: {node.name}"
