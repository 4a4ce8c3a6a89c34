"""Translation of a rule or a stage to CUDA C++, from its Python syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from ...rules.grammar import VOCABULARY, definition

__all__ = ["UnprintableError", "keys_of", "printed"]

_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARISONS = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


class UnprintableError(ValueError):
    """A function uses something outside the grammar of rules."""


def printed(function: Callable[..., Any], name: str, real: str = "real") -> str:
    """Translate a function in the grammar of rules to C++.

    Parameters
    ----------
    function : callable
        The function. Its last parameter is the array namespace.
    name : str
        Name of the C++ function.
    real : str
        The type of all its numbers. With ``"double"``, the type of scalars of one tensor, it may
        contain literals and named constants, combine conditions, and return a dict, as a ratio
        does.

    Returns
    -------
    str
        The source of a function with the same parameters except the last, then one reference
        per result. Names get a trailing underscore: a rule may call a variable ``new``.

    Raises
    ------
    UnprintableError
        If a statement or expression is not in the grammar.
    """
    node = definition(function)
    if real == "double":
        node = _Scalars(function).visit(node)
    parameters = [argument.arg for argument in node.args.args][:-1]
    known = set(parameters)
    lines, results = [], 0
    for statement in _without_docstring(node.body):
        if isinstance(statement, ast.Return) and statement.value is not None:
            value = statement.value
            values = value.elts if isinstance(value, ast.Tuple) else [value]
            values = value.values if isinstance(value, ast.Dict) and real == "double" else values
            results = len(values)
            # Compute all results before writing any: a result may alias a parameter.
            lines += [f"const {real} y{k} = {_expression(v)};" for k, v in enumerate(values)]
            lines += [f"r{k} = y{k};" for k in range(results)]
        elif isinstance(statement, ast.Assign):
            lines.append(_assignment(statement, known))
        else:
            raise UnprintableError(f"{name}: {ast.unparse(statement)} is not a plain assignment")
    signature = [f"{real} {parameter}_" for parameter in parameters]
    signature += [f"{real} &r{k}" for k in range(results)]
    body = "".join(f"    {line}\n" for line in lines)
    return f"FUNCTION void {name}({', '.join(signature)}) {{\n{body}}}\n"


def keys_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the keys of the dict that a ratio returns, in the order of its results.

    Parameters
    ----------
    function : callable
        The ratio.

    Raises
    ------
    UnprintableError
        If its last statement returns no such dict.
    """
    last = definition(function).body[-1]
    value = last.value if isinstance(last, ast.Return) else None
    keys = value.keys if isinstance(value, ast.Dict) else []
    names = [key.value for key in keys if isinstance(key, ast.Constant)]
    if not names or len(names) != len(keys):
        raise UnprintableError(f"{function.__name__}: wanted one dict to be returned, by names")
    return tuple(map(str, names))


class _Scalars(ast.NodeTransformer):
    """Translate what is allowed in functions of per-tensor scalars only."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._globals = function.__globals__

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Translate a literal."""
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            return node
        return _Printed(repr(float(node.value)))

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Translate a name of a module constant to its value."""
        known = self._globals.get(node.id)
        good = isinstance(known, int | float) and not isinstance(known, bool)
        return _Printed(repr(float(known))) if good else node  # type: ignore[arg-type]

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Translate a combination of conditions."""
        self.generic_visit(node)
        sign = {ast.BitAnd: "&&", ast.BitOr: "||"}.get(type(node.op))
        if sign is None:
            return node
        return _Printed(f"({_expression(node.left)} {sign} {_expression(node.right)})")


class _Printed(ast.expr):
    """An expression that is already C++ source."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


def _without_docstring(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    first = body[0]
    skip = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    yield from body[1:] if skip else body


def _assignment(statement: ast.Assign, known: set[str]) -> str:
    target = statement.targets[0]
    if not isinstance(target, ast.Name) or len(statement.targets) > 1:
        raise UnprintableError(f"{ast.unparse(statement)}: only one plain name may be assigned")
    # auto, as a comparison is no real.
    declared = "" if target.id in known else "auto "
    known.add(target.id)
    return f"{declared}{target.id}_ = {_expression(statement.value)};"


def _expression(node: ast.expr) -> str:
    if isinstance(node, _Printed):
        return node.text
    if isinstance(node, ast.Name):
        return f"{node.id}_"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return f"(-{_expression(node.operand)})"
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        sign = _OPERATORS[type(node.op)]
        return f"({_expression(node.left)} {sign} {_expression(node.right)})"
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
        sign = _COMPARISONS[type(node.ops[0])]
        return f"({_expression(node.left)} {sign} {_expression(node.comparators[0])})"
    if isinstance(node, ast.Call) and not node.keywords:
        return _call(node.func, node.args)
    raise UnprintableError(f"{ast.unparse(node)} is outside the grammar of rules")


def _call(function: ast.expr, arguments: list[ast.expr]) -> str:
    known = isinstance(function, ast.Attribute) and function.attr in VOCABULARY
    if not known or not isinstance(function, ast.Attribute) or ast.unparse(function.value) != "xp":
        raise UnprintableError(f"{ast.unparse(function)} is not in the exact vocabulary")
    return f"xp_{function.attr}({', '.join(map(_expression, arguments))})"
