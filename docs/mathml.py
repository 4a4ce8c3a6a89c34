"""Sphinx extension: formulas as MathML, which browsers show without scripts or a network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert


def inline(translator: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.math_block) -> None:
    """Write a formula of its own, whose lines are aligned where they say so."""
    text = node.astext()
    aligned = rf"\begin{{split}}{text}\end{{split}}" if "\\\\" in text or "&" in text else text
    formula = convert(aligned, display="block")
    translator.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.add_css_file("pages.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
