"""Sphinx extension: the directive ``shelves``, the package's rooms in the order of their imports.

The order is that of the contract in ``pyproject.toml``, and what a room is stands in its own file.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import tomllib
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "src" / "arrayoptim"


def shelves() -> list[list[str]]:
    """Return the names of the rooms of each shelf, the highest first."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [[name.strip(" ()") for name in layer.split(":")] for layer in layers]


def said(room: str) -> str:
    """Return the first sentence of a room's own documentation."""
    folder = PACKAGE / room
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = re.sub(r"\s+", " ", doc.partition("\n\n")[0])
    # Most rooms are not public, so that names in them have no page to link to.
    return re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", sentence)


def table() -> list[str]:
    """Return the lines of the table, in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 10 18 72", ""]
    lines += ["   * - shelf", "     - room", "     - what it is"]
    rows = shelves()
    for height, shelf in zip(range(len(rows), 0, -1), rows, strict=True):
        for place, room in enumerate(shelf):
            lines.append(f"   * - {height if place == 0 else ''}")
            lines.append(f"     - ``{room}{'/' * (PACKAGE / room).is_dir()}``")
            lines.append(f"     - {said(room)}")
    return lines


class Shelves(Directive):
    """The table of all shelves."""

    def run(self) -> list[Any]:
        """Return its nodes."""
        node = nodes.container()
        self.state.nested_parse(StringList(table(), "shelves"), self.content_offset, node)
        return list(node.children)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("shelves", Shelves)
    return {"parallel_read_safe": True}
