"""The grammar that all update rules obey."""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from .form import Kind, Rule

VOCABULARY = frozenset({"abs", "sqrt", "square", "sign", "maximum", "minimum", "where", "copysign"})
"""Functions of ``xp`` for which NumPy and compiled loops are bit-identical."""

_STATEMENTS = (ast.Assign, ast.Return)
_EXPRESSIONS = (ast.Name, ast.BinOp, ast.UnaryOp, ast.Call, ast.Attribute, ast.Tuple, ast.Compare)
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.USub, ast.expr_context, ast.cmpop)


def grammar_errors(rule: Rule) -> list[str]:
    """Return the violations of the grammar that all engines rely on.

    The body is straight-line: assignments and one ``return`` of the parameter and the slots. It
    has no literals, module-level names, branches, loops or in-place writes, calls only functions
    of `VOCABULARY`, and has no arithmetic on coefficients alone. A matrix rule may use literals,
    all of ``xp`` and helper functions, which may contain static loops; its own body is
    straight-line too and writes into no array.

    Parameters
    ----------
    rule : Rule
        The rule whose source is checked.

    Returns
    -------
    list of str
        One sentence per violation; empty for a valid rule.
    """
    errors = mistakes(rule)
    for prefix, function, _ in _parts(rule):
        errors += [prefix + fault for fault in _function_errors(function, rule)]
    return errors


def mistakes(rule: Rule) -> list[str]:
    """Return errors that no engine could run with: wrong numbers of results, undefined names.

    Parameters
    ----------
    rule : Rule
        The rule whose source is checked.

    Returns
    -------
    list of str
        One sentence per error.

    Raises
    ------
    OSError, SyntaxError, ValueError
        If the source is not available.
    """
    errors = []
    for prefix, function, wanted in _parts(rule):
        errors += [prefix + fault for fault in _count_errors(function, wanted, rule.kind)]
        # Helper functions of a matrix rule may be defined later in the module.
        for name in _strangers(function) if rule.kind != "matrix" else ():
            if not _defined(name.id, function):
                errors.append(f"{prefix}line {name.lineno}: the name {name.id!r} is not defined")
    return errors


def definition(function: Callable[..., Any]) -> ast.FunctionDef:
    """Return the syntax tree of a function.

    Parameters
    ----------
    function : callable
        A function defined by ``def``.

    Returns
    -------
    ast.FunctionDef
        Its definition.

    Raises
    ------
    OSError
        If its source is not available.
    ValueError
        If it was not defined by ``def``.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            return node
    raise ValueError(f"{function.__name__}: found no def statement, which engines need to read")


def _parts(rule: Rule) -> Iterator[tuple[str, Callable[..., Any], int]]:
    """Yield the name for messages, function and number of results of each function of a rule."""
    yield "", rule.function, 1 + len(rule.slots)
    if rule.direction is not None:
        yield "direction: ", rule.direction, 1 + len(rule.slots)
    if rule.measure is not None:
        yield "measure: ", rule.measure, len(rule.norms) + len(rule.sums)


def _count_errors(function: Callable[..., Any], wanted: int, kind: Kind) -> Iterator[str]:
    """Yield wrong numbers of results; a matrix rule may return the results of a helper directly."""
    last = _body(function)[-1]
    if not isinstance(last, ast.Return):
        return
    value = last.value
    parts = value.elts if isinstance(value, ast.Tuple) else []
    if kind == "matrix" and (not parts or any(isinstance(part, ast.Starred) for part in parts)):
        return
    found = len(parts)
    if found != wanted:
        named = f"{found} values" if found else "no tuple"
        yield f"line {last.lineno}: found {named}, wanted a tuple of {wanted} returned values"


def _strangers(function: Callable[..., Any]) -> list[ast.Name]:
    """Return the free names in a body: neither parameters nor assigned there."""
    node = definition(function)
    names = [part for statement in node.body for part in ast.walk(statement)]
    loaded = [part for part in names if isinstance(part, ast.Name)]
    known = {part.id for part in loaded if isinstance(part.ctx, ast.Store)}
    known |= {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
    return [part for part in loaded if part.id not in known]


def _defined(name: str, function: Callable[..., Any]) -> bool:
    """Whether a free name of a function is defined: in a closure, its module or builtins."""
    own: Any = function
    around = own.__code__.co_freevars
    return name in around or name in own.__globals__ or hasattr(builtins, name)


def _body(function: Callable[..., Any]) -> list[ast.stmt]:
    body = definition(function).body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return body or [ast.Pass(lineno=1)]


def _function_errors(function: Callable[..., Any], rule: Rule) -> list[str]:
    body = _body(function)
    errors = [fault for statement in body for fault in _statement_errors(statement, rule.kind)]
    if rule.kind != "matrix":
        errors += _constant_errors(function)
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
                    "called by a plain name"
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


def _constant_errors(function: Callable[..., Any]) -> Iterator[str]:
    """Yield uses of module-level names, which like literals cannot be part of a kernel."""
    nodes = ast.walk(definition(function))
    called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
    for name in _strangers(function):
        if _defined(name.id, function) and name.id not in called:
            yield f"line {name.lineno}: {name.id} is not a local variable; make it a coefficient"


def _scalar_errors(statement: ast.stmt, rule: Rule) -> Iterator[str]:
    """Yield arithmetic on coefficients alone, which would be rounded to float32."""
    for node in ast.walk(statement):
        if rule.kind != "matrix" and isinstance(node, ast.BinOp):
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} - {"xp"}
            if names and names <= set(rule.coefficients):
                yield (
                    f"line {node.lineno}: {ast.unparse(node)} involves coefficients alone; compute "
                    "it in coefficients(), in double precision"
                )


def _is_function(found: ast.expr) -> bool:
    """Whether a call is to a name or an attribute of ``xp``, as array methods differ by library."""
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
