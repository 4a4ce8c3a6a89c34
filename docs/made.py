"""What stands in the checkout and is made from the classes: the README's table, the type stubs.

``python docs/made.py`` writes it anew; the tests say when it is out of date.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import adapter_stubs
import arrayoptim as ao

README = Path(__file__).parent.parent / "README.md"


def row(name: str) -> str:
    """Return what the README's table says of an optimizer."""
    optimizer = ao.get(name)
    summary = inspect.cleandoc(type(optimizer).__doc__ or "").partition("\n")[0].rstrip(".")
    slots = ", ".join(f"`{slot}`" for slot in optimizer.rule.slots)
    return f"| `{name}` | {summary} | {slots} |"


def readme(text: str) -> str:
    """Return the README with the table of today's optimizers."""
    rows = "".join(f"{row(name)}\n" for name in ao.names())
    return re.sub(r"(?<=\|---\|---\|---\|\n)(\| `.*\n)+", lambda _: rows, text)


def main() -> None:
    """Write all of it."""
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    adapter_stubs.main()


if __name__ == "__main__":
    main()
