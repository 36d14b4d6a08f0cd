"""The code samples of the two products' pages (seeds/), cut out of their text.

Only the base URL, the key and the model are changed before a sample runs. One page was copied as a
browser shows it: its line numbers stand after each sample, and indentation is lost.
"""

from __future__ import annotations

import re

from msgspec import Struct

from tests.clients.environments import HERE

_FENCED = re.compile(r"^```(python|typescript)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_NUMBERED = re.compile(r"^(python|typescript|bash)\n(.*?)1\n2\n", re.DOTALL | re.MULTILINE)
_ADDRESS = re.compile(r"https://(?:ai-gateway\.vercel\.sh|api\.gateflow\.ai)/v1")
_MODEL = re.compile(r"""(model["']?\s*[=:]\s*)(["'])[^"']+\2""")


class Sample(Struct, frozen=True):
    """One sample as printed, and what must stand before it if it goes on from an earlier one."""

    name: str
    language: str
    code: str
    before: str = ""

    def ready(self, url: str, key: str, model: str | None) -> str:
        """The code with our base URL and key, and with *model* in place of its own if given."""
        code = _ADDRESS.sub(f"{url}/v1", f"{self.before}{self.code}").replace("gw_prod_...", key)
        return code if model is None else _MODEL.sub(rf"\g<1>\g<2>{model}\g<2>", code)


def load_samples() -> list[Sample]:
    """Every sample of both pages, in the order in which they stand."""
    found = []
    for page, pattern in (("ai-gateway", _FENCED), ("gateflow", _NUMBERED)):
        text = (HERE / "seeds" / f"{page}-embeddings.txt").read_text("utf-8")
        counts: dict[str, int] = {}
        before: dict[str, str] = {}
        for language, code in pattern.findall(text):
            whole = code if page == "ai-gateway" else _indented(code, language)
            counts[language] = counts.get(language, 0) + 1
            name = f"{page}-{language}-{counts[language]}"
            if language == "bash" or "OpenAI(" in whole:
                found.append(Sample(name, language, whole))
                # What makes the client; later samples of the page leave it out.
                before.setdefault(language, re.split(r"^(?:const )?response", whole, flags=re.M)[0])
            else:
                found.append(Sample(name, language, whole, before[language]))
    return found


def _indented(code: str, language: str) -> str:
    """Python blocks of one line, indented again."""
    if language != "python":
        return code
    lines = code.splitlines()
    for above, below in zip(range(len(lines)), range(1, len(lines)), strict=False):
        if lines[above].endswith(":"):
            lines[below] = f"    {lines[below]}"
    return "\n".join(lines)
