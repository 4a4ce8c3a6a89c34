"""Formulas of the pages, made from the rules."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

import arrayoptim as ao
import formulas


def test_adam_reads_like_the_paper() -> None:
    rule = ao.Adam().rule
    assert formulas.formula(rule.function, rule.slots).splitlines() == [
        r"m &\leftarrow \beta_{1} \, m + c_{1} \, g \\",
        r"v &\leftarrow \beta_{2} \, v + c_{2} \, {g}^2 \\",
        r"p &\leftarrow p - \eta \, \frac{m}{\sqrt{v} + \varepsilon}",
    ]


def test_differences_keep_their_parentheses() -> None:
    def rule(p, g, a, lr, xp):  # type: ignore[no-untyped-def]
        d = p - (g - a) - lr
        a = xp.where(d > g, xp.maximum(a, -g), xp.abs(a + g) * lr)
        return (p + g) * (p - a), a

    lines = formulas.formula(rule, ("a",)).splitlines()
    assert lines == [
        r"d &\leftarrow p - \left(g - a\right) - \eta \\",
        r"a &\leftarrow \begin{cases} \max\left(a, -g\right) & \text{if } d > g \\ "
        r"\left|a + g\right| \, \eta & \text{otherwise} \end{cases} \\",
        r"p &\leftarrow \left(p + g\right) \, \left(p - a\right)",
    ]


def test_a_choice_in_a_choice_is_one_more_case() -> None:
    def rule(p, g, xp):  # type: ignore[no-untyped-def]
        return (xp.where(g > p, p, xp.where(g < p, g, p * g)),)

    (line,) = formulas.formula(rule, ()).splitlines()
    assert line == (
        r"p &\leftarrow \begin{cases} p & \text{if } g > p \\ g & \text{if } g < p \\ "
        r"p \, g & \text{otherwise} \end{cases}"
    )


def test_every_formula_is_mathml_that_browsers_show() -> None:
    """Without a script, and with nothing left that was not understood."""
    convert = pytest.importorskip("latex2mathml.converter").convert
    for name in ao.names():
        rule = ao.get(name).rule
        try:
            text = formulas.formula(rule.function, rule.slots)
        except formulas.NoFormulaError:
            continue
        found = convert(rf"\begin{{split}}{text}\end{{split}}", display="block")
        ElementTree.fromstring(found)
        assert found.count("&#x02190;") == len(text.splitlines()), name
        assert "\\" not in found, name


def test_every_rule_has_a_formula_or_goes_over_whole_matrices() -> None:
    for name in ao.names():
        rule = ao.get(name).rule
        try:
            text = formulas.formula(rule.function, rule.slots)
        except formulas.NoFormulaError:
            assert rule.kind == "matrix", name
            continue
        assert text.count(r"\left(") == text.count(r"\right)")
        assert text.count("{") == text.count("}")
        assert re.search(r"^p &\\leftarrow ", text, flags=re.M), name


def test_what_is_no_formula() -> None:
    def loop(p, g, xp):  # type: ignore[no-untyped-def]
        for _ in range(3):
            p = p - g
        return (p,)

    def short(p, g, m, xp):  # type: ignore[no-untyped-def]
        return (p,)

    for rule, slots in ((loop, ()), (short, ("m",))):
        with pytest.raises(formulas.NoFormulaError):
            formulas.formula(rule, slots)
