"""The grammar that all update rules obey."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from ._rule import Kind, Rule

VOCABULARY = frozenset({"abs", "sqrt", "square", "sign", "maximum", "minimum", "where", "copysign"})
"""Functions of ``xp`` that NumPy and a compiled loop compute to the last bit alike."""

_STATEMENTS = (ast.Assign, ast.Return)
_EXPRESSIONS = (ast.Name, ast.BinOp, ast.UnaryOp, ast.Call, ast.Attribute, ast.Tuple, ast.Compare)
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.USub, ast.expr_context, ast.cmpop)


def grammar_errors(rule: Rule) -> list[str]:
    """Say where a rule leaves the grammar that all engines share.

    The body is straight-line: assignments and one ``return`` of the parameter and the slots, with
    no literal, branch, loop or in-place write, only functions of `VOCABULARY`, and no arithmetic
    on coefficients alone. A rule for matrices may use literals, all of ``xp`` and helper functions,
    in which static loops may stand; its body is straight-line too, and writes into no array.

    Parameters
    ----------
    rule : Rule
        The rule to read.

    Returns
    -------
    list of str
        One sentence per fault; empty for a good rule.
    """
    errors = _function_errors(rule.function, rule)
    for name, function in (("direction", rule.direction), ("measure", rule.measure)):
        if function is not None:
            errors += [f"{name}: {fault}" for fault in _function_errors(function, rule)]
    last = _body(rule.function)[-1]
    wanted = 1 + len(rule.slots)
    if isinstance(last, ast.Return) and last.value is not None:
        found = len(last.value.elts) if isinstance(last.value, ast.Tuple) else 1
        if found != wanted:
            errors.append(f"line {last.lineno}: wanted {wanted} returned values, a tuple of them")
    return errors


def _body(function: Callable[..., Any]) -> list[ast.stmt]:
    source = textwrap.dedent(inspect.getsource(function))
    body = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)).body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return body or [ast.Pass(lineno=1)]


def _function_errors(function: Callable[..., Any], rule: Rule) -> list[str]:
    body = _body(function)
    errors = [fault for statement in body for fault in _statement_errors(statement, rule.kind)]
    errors += [fault for statement in body for fault in _scalar_errors(statement, rule)]
    last = body[-1]
    if not isinstance(last, ast.Return) or last.value is None:
        errors.append("the last statement must return the new parameter and the new slots")
    return errors


def _statement_errors(statement: ast.stmt, kind: Kind) -> Iterator[str]:
    if not isinstance(statement, _STATEMENTS):
        yield f"line {statement.lineno}: {type(statement).__name__} is not a plain assignment"
        return
    target = statement.targets[0] if isinstance(statement, ast.Assign) else None
    several = kind == "matrix" and isinstance(target, ast.Tuple)
    targets = target.elts if several and isinstance(target, ast.Tuple) else [target]
    if target is not None and not all(isinstance(each, ast.Name) for each in targets):
        yield f"line {statement.lineno}: only plain names may be assigned, no in-place write"
    if kind == "matrix":
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and not _is_function(node.func):
                yield (
                    f"line {node.lineno}: {ast.unparse(node.func)} is neither a function of xp nor "
                    "one that is called by its name"
                )
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Constant):
            yield f"line {node.lineno}: literal {node.value!r}; make it a coefficient"
        elif isinstance(node, ast.Call):
            yield from _call_errors(node)
        elif isinstance(node, ast.expr) and not isinstance(node, _EXPRESSIONS):
            yield f"line {node.lineno}: {type(node).__name__} is outside the grammar"
        elif isinstance(node, ast.operator | ast.unaryop) and not isinstance(node, _OPERATORS):
            yield f"line {statement.lineno}: operator {type(node).__name__} is outside the grammar"


def _scalar_errors(statement: ast.stmt, rule: Rule) -> Iterator[str]:
    """Find arithmetic on coefficients alone, which a float32 parameter would round to float32."""
    for node in ast.walk(statement):
        if rule.kind != "matrix" and isinstance(node, ast.BinOp):
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} - {"xp"}
            if names and names <= set(rule.coefficients):
                yield (
                    f"line {node.lineno}: {ast.unparse(node)} has coefficients alone; compute it "
                    "in coefficients(), in double precision"
                )


def _is_function(found: ast.expr) -> bool:
    """Whether this is a name, or found in ``xp``; methods of arrays differ between libraries."""
    if isinstance(found, ast.Name):
        return True
    while isinstance(found, ast.Attribute):
        found = found.value
    return isinstance(found, ast.Name) and found.id == "xp"


def _call_errors(node: ast.Call) -> Iterator[str]:
    function = node.func
    known = (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "xp"
        and function.attr in VOCABULARY
    )
    if not known:
        yield f"line {node.lineno}: {ast.unparse(function)} is not in the exact vocabulary"
    if node.keywords:
        yield f"line {node.lineno}: keyword arguments are outside the grammar"
