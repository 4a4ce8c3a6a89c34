"""Sphinx directive: shows a report that the race has written, which is Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

UNDERLINES = {"#": "-", "##": "~"}


def restructured(markdown: str, folder: str) -> str:
    """Translate the little of Markdown that the race writes."""
    return "\n".join(_translated(markdown.splitlines(), folder))


def _translated(lines: list[str], folder: str) -> Iterator[str]:
    for is_table, group in groupby(lines, lambda line: line.startswith("|")):
        if is_table:
            yield from _table(list(group))
        else:
            for line in group:
                yield from _line(line, folder)


def _line(line: str, folder: str) -> Iterator[str]:
    heading = re.fullmatch(r"(##?) (.*)", line)
    image = re.fullmatch(r"!\[(.*)\]\((.*)\)", line)
    if heading:
        marks, title = heading.groups()
        yield from (title, UNDERLINES[marks] * len(title))
    elif image:
        yield from (f".. image:: {folder}/{image[2]}", f"   :alt: {image[1]}")
    else:
        yield _literals(line)


def _table(lines: list[str]) -> Iterator[str]:
    yield from (".. list-table::", "   :header-rows: 1", "   :class: race", "")
    for row in [lines[0], *lines[2:]]:
        for i, cell in enumerate(row.split("|")[1:-1]):
            yield f"   {'*' if i == 0 else ' '} - {_literals(cell.strip())}".rstrip()


def _literals(text: str) -> str:
    return re.sub(r"`(.*?)`", r"``\1``", text)


class RaceReport(SphinxDirective):
    """The report at a path below the documentation's folder, or a line where there is none."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Give what the report says."""
        path = Path(self.env.srcdir) / self.arguments[0]
        self.env.note_dependency(str(path))
        if not path.exists():
            return self.parse_text_to_nodes("No figures have been recorded yet.")
        folder = Path(self.arguments[0]).parent.as_posix()
        text = restructured(path.read_text(encoding="utf-8"), folder)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("race-report", RaceReport)
    return {"parallel_read_safe": True}
