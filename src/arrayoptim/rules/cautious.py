"""Cautious rules: derived from a rule by masking its step where it disagrees with the gradient."""

from __future__ import annotations

import ast
from dataclasses import replace
from functools import cache
from typing import Any

from .._typing import Namespace, Scalar
from .grammar import definition
from .rule import Rule

__all__ = ["cautious"]

LEAST = 1e-3
"""The authors' lower bound on the fraction of agreeing entries, by which the step is divided."""


@cache
def cautious(rule: Rule) -> Rule:
    """Return a rule whose step is zero wherever it disagrees with the gradient.

    Parameters
    ----------
    rule : Rule
        An elementwise rule that returns the parameter plus or minus a step.

    Returns
    -------
    Rule
        The same rule, masked and scaled by `arrayoptim.rules.stages.caution`.

    Raises
    ------
    ValueError
        If it is not such a rule.
    """
    if rule.kind != "elementwise":
        raise ValueError(
            f"cautious=True: the rule {rule.name} is {rule.kind}, wanted an elementwise "
            "one; leave it out"
        )
    if not _adds(rule):
        raise ValueError(
            f"cautious=True: the rule {rule.name} does not return the parameter plus or "
            "minus a step that could be masked; leave it out"
        )
    made = replace(rule, kind="tensorwise", ratio=boost, measured=("boost",), sums=("agreeing",))
    return replace(made, masked=True)


def boost(size: Any, agreeing: Scalar, xp: Namespace) -> dict[str, Scalar]:
    """Return half the factor for agreeing entries, given twice their number as a total."""
    mean = agreeing / (2.0 * xp.maximum(size, 1.0))
    return {"boost": 0.5 / xp.maximum(mean, LEAST)}


def _adds(rule: Rule) -> bool:
    """Whether the rule returns the parameter plus or minus terms that do not contain it."""
    body = definition(rule.function)
    value = next(node for node in ast.walk(body) if isinstance(node, ast.Return)).value
    first = value.elts[0] if isinstance(value, ast.Tuple) else value
    terms = 0
    while isinstance(first, ast.BinOp) and isinstance(first.op, ast.Add | ast.Sub):
        terms, first = terms + 1, first.left
    names = [node for node in ast.walk(body) if isinstance(node, ast.Name)]
    once = [node.id for node in names].count("p") == 1
    return terms > 0 and isinstance(first, ast.Name) and first.id == "p" and once
