"""The file of `-o`: what an earlier run left, and how the next state is put in its place.

Beside OUT there is OUT.partial (the journal) while a run is not finished, and OUT.manifest after.
OUT itself is only ever replaced as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from embedway.cli.corpus import Corpus
from embedway.cli.journal import Header, Journal, open_journal, refuse_other
from embedway.cli.manifest import (
    Manifest,
    checksum,
    manifest_path,
    read_manifest,
    write_manifest,
)
from embedway.cli.plan import Plan, read_again
from embedway.cli.results import Shape, find_format
from embedway.cli.stop import WRONG_USAGE, Stop


class Output:
    """One output file. Raises Stop at once if it could not be written in the end."""

    def __init__(self, path: Path, header: Header, inputs: Sequence[Path]) -> None:
        self.path = path
        self.header = header
        self._format = find_format(path)
        self._manifest_path = manifest_path(path)
        self._partial_path = path.with_name(f"{path.name}.partial")
        if not path.absolute().parent.is_dir():
            raise Stop(f"-o {path}: there is no folder {path.absolute().parent}", WRONG_USAGE)
        if any(path.resolve() == file.resolve() for file in inputs):
            raise Stop(f"-o {path}: is one of the inputs; give another name", WRONG_USAGE)

    def open(self, plan: Plan, *, is_restart: bool) -> Journal | None:
        """A journal with all that is done; None if the output is just what *plan* asks for.

        is_restart: nothing is done, and whatever the output is may be replaced.
        Raises Stop if the output is not ours, was changed, or holds vectors of another kind.
        """
        if is_restart:
            self._forget()
            return open_journal(self.header, self._partial_path)
        is_begun = self._partial_path.exists()
        manifest = self._sound_manifest(is_begun=is_begun)
        if manifest is not None and manifest.content == plan.content and not is_begun:
            return None
        journal = open_journal(self.header, self._partial_path)
        if manifest is not None:
            vectors = self._format.read(self.path)
            known = zip(manifest.names(), vectors, strict=True)
            journal.add((name, vector) for name, vector in known if name in plan.unique)
        return journal

    def finish(self, corpus: Corpus, plan: Plan, journal: Journal) -> None:
        """Write the output and its manifest, each as a whole, then drop the journal."""
        shape = Shape(
            header=self.header,
            rows=plan.rows,
            has_ids=plan.has_ids,
            has_number_ids=plan.has_number_ids,
        )
        rows = ((row, journal.vector(name)) for row, name in read_again(corpus, plan))
        new = self.path.with_name(f"{self.path.name}.writing")
        try:
            self._format.write(new, rows, shape)
            _flush(new)
            manifest = Manifest(
                header=self.header,
                content=plan.content,
                checksum=checksum(new),
                digests=plan.digests,
            )
            # A crash between these two leaves a manifest that does not fit the output; the
            # journal, still there, then has every vector.
            os.replace(new, self.path)
            write_manifest(manifest, new)
            os.replace(new, self._manifest_path)
        finally:
            new.unlink(missing_ok=True)
        journal.remove()

    def _forget(self) -> None:
        """Drop what earlier runs learnt, so that everything is embedded again. The output itself
        stays until the new one takes its place."""
        self._partial_path.unlink(missing_ok=True)
        self._manifest_path.unlink(missing_ok=True)

    def _sound_manifest(self, *, is_begun: bool) -> Manifest | None:
        if not self.path.exists():
            return None
        manifest = read_manifest(self._manifest_path)
        if manifest is not None and manifest.checksum == checksum(self.path):
            refuse_other(self.header, manifest.header, str(self.path))
            return manifest
        if is_begun:
            return None
        what = "was changed since" if manifest else "is not the output of"
        raise Stop(
            f"{self.path} {what} 'embedway embed'; give another -o, or --restart to replace it"
        )


def _flush(path: Path) -> None:
    """Have the system write it down before it takes the place of the old one."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
