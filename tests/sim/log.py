"""What happened, line by line: the same lines for the same seed, and which laws were broken."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter


class Log:
    """The events of one run, with their virtual times."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.broken: list[str] = []
        self.met: Counter[str] = Counter()
        """How often each kind of situation arose: a simulation proves nothing of what it never
        comes across."""

    def write(self, text: str) -> None:
        """Note an event."""
        self.lines.append(f"{asyncio.get_running_loop().time():.6f} {text}")

    def expect(self, is_kept: bool, law: str, *where: object) -> None:
        """Note it if a law is broken."""
        if not is_kept:
            broken = f"{law}: {' '.join(map(repr, where))}"
            self.broken.append(broken)
            self.write(f"BROKEN {broken}")

    @property
    def digest(self) -> str:
        """Equal for runs that were alike in every event."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:16]
