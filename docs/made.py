"""What is made from the classes and kept: the table and number of optimizers, the type stubs.

``python docs/made.py`` writes it anew; the tests say when it is out of date.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import adapter_stubs
import arrayoptim as ao

ROOT = Path(__file__).parent.parent


def row(name: str) -> str:
    """Return what the table says of an optimizer."""
    optimizer = ao.get(name)
    summary = inspect.cleandoc(type(optimizer).__doc__ or "").partition("\n")[0].rstrip(".")
    slots = ", ".join(f"`{slot}`" for slot in optimizer.rule.slots)
    return f"| `{name}` | {summary} | {slots} |"


def table(text: str) -> str:
    """Return the page with the table of today's optimizers."""
    rows = "".join(f"{row(name)}\n" for name in ao.names())
    return re.sub(r"(?<=\|---\|---\|---\|\n)(\| `.*\n)+", lambda _: rows, text)


def readme(text: str) -> str:
    """Return the README with the number of today's optimizers."""
    return re.sub(r"\d+(?= of them)", str(len(ao.names())), text)


PAGES = {"README.md": readme, "docs/optimizers/at_a_glance.md": table}


def main() -> None:
    """Write all of it."""
    for name, made in PAGES.items():
        path = ROOT / name
        path.write_text(made(path.read_text(encoding="utf-8")), encoding="utf-8")
    adapter_stubs.main()


if __name__ == "__main__":
    main()
