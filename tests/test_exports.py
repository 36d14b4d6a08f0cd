"""The public names of the package."""

import importlib.metadata
import subprocess
import sys

import embedway


def test_public_names():
    """The package exports its version and nothing else, until something else is promised."""
    public = {name for name in vars(embedway) if not name.startswith("_")}
    modules = {name for name in public if f"embedway.{name}" in sys.modules}

    assert public - modules == set()
    assert embedway.__version__ == importlib.metadata.version("embedway")
    assert embedway.__doc__


def test_import_is_light():
    """Importing the package alone imports nothing that costs time."""
    code = (
        "import sys; before = set(sys.modules); import embedway;"
        "new = {name for name in set(sys.modules) - before if not name.startswith('embedway')};"
        "assert not new, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
