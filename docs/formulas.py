"""Update rules as formulas, made from their syntax trees."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

from arrayoptim.rules.grammar import definition

NAMES = {
    "lr": r"\eta",
    "eps": r"\varepsilon",
    "wd": r"\lambda",
    "b": r"\beta",
    "p": "p",
    "g": "g",
}
LOOSE, SUM, PRODUCT, SIGN, ATOM = range(5)
"""How tightly the parts of an expression hold together."""

COMPARED = {
    ast.Lt: "<",
    ast.LtE: r"\le",
    ast.Gt: ">",
    ast.GtE: r"\ge",
    ast.Eq: "=",
    ast.NotEq: r"\ne",
}


class NoFormulaError(ValueError):
    """A rule has something that this cannot write as a formula."""


def formula(function: Callable[..., Any], slots: tuple[str, ...]) -> str:
    """Return the lines of a rule in LaTeX, aligned at the arrows.

    Parameters
    ----------
    function : callable
        The rule's function: parameter, gradient, one letter for each slot, coefficients, ``xp``.
    slots : tuple of str
        The rule's slots.

    Raises
    ------
    NoFormulaError
        If it leaves the grammar of rules that step each element by itself.
    """
    node = definition(function)
    letters = [argument.arg for argument in node.args.args]
    targets = [letters[0], *letters[2 : 2 + len(slots)]]
    return " \\\\\n".join(_lines(node, targets))


def _lines(node: ast.FunctionDef, targets: list[str]) -> Iterator[str]:
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            yield _step(statement.targets[0].id, statement.value)
        elif isinstance(statement, ast.Return) and isinstance(statement.value, ast.Tuple):
            if len(statement.value.elts) != len(targets):
                raise NoFormulaError(f"line {statement.lineno}")
            for target, value in zip(targets, statement.value.elts, strict=True):
                if not (isinstance(value, ast.Name) and value.id == target):
                    yield _step(target, value)
        elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            raise NoFormulaError(f"line {statement.lineno}: {ast.unparse(statement)}")


def _step(target: str, value: ast.expr) -> str:
    return f"{letter(target)} &\\leftarrow {_text(value, LOOSE)}"


def letter(name: str) -> str:
    """Return a name of a rule as a symbol."""
    if name in NAMES:
        return NAMES[name]
    word, digits = re.fullmatch(r"(.*?)_?(\d*)", name).groups()  # type: ignore[union-attr]
    base = NAMES.get(word, word if len(word) == 1 else rf"\mathrm{{{word}}}".replace("_", r"\_"))
    return f"{base}_{{{digits}}}" if digits else base


def _text(node: ast.expr, least: int) -> str:
    text, level = _written(node)
    return text if level >= least else rf"\left({text}\right)"


def _written(node: ast.expr) -> tuple[str, int]:
    """Return the text of an expression, and how tightly it holds together."""
    if isinstance(node, ast.Name):
        return letter(node.id), ATOM
    if isinstance(node, ast.BinOp):
        return _binary(node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return f"-{_text(node.operand, PRODUCT)}", SUM
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        sign = COMPARED[type(node.ops[0])]
        return f"{_text(node.left, SUM)} {sign} {_text(node.comparators[0], SUM)}", LOOSE
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return _called(node.func.attr, node.args)
    raise NoFormulaError(f"line {node.lineno}: {ast.unparse(node)}")


def _binary(node: ast.BinOp) -> tuple[str, int]:
    if isinstance(node.op, ast.Div):
        return rf"\frac{{{_text(node.left, LOOSE)}}}{{{_text(node.right, LOOSE)}}}", ATOM
    if isinstance(node.op, ast.Mult):
        same = ast.dump(node.left) == ast.dump(node.right)
        if same:
            return f"{{{_text(node.left, ATOM)}}}^2", ATOM
        return rf"{_text(node.left, PRODUCT)} \, {_text(node.right, PRODUCT)}", PRODUCT
    if isinstance(node.op, ast.Add):
        return f"{_text(node.left, SUM)} + {_text(node.right, SUM)}", SUM
    if isinstance(node.op, ast.Sub):
        return f"{_text(node.left, SUM)} - {_text(node.right, PRODUCT)}", SUM
    raise NoFormulaError(f"line {node.lineno}: {ast.unparse(node)}")


def _cases(arguments: list[ast.expr]) -> Iterator[str]:
    """Yield the lines of a choice, those of the choice in its last place included."""
    condition, then, other = arguments
    yield rf"{_text(then, LOOSE)} & \text{{if }} {_text(condition, LOOSE)}"
    if (
        isinstance(other, ast.Call)
        and isinstance(other.func, ast.Attribute)
        and other.func.attr == "where"
    ):
        yield from _cases(other.args)
    else:
        yield rf"{_text(other, LOOSE)} & \text{{otherwise}}"


def _called(name: str, arguments: list[ast.expr]) -> tuple[str, int]:
    parts = [_text(each, LOOSE) for each in arguments]
    if name == "sqrt":
        return rf"\sqrt{{{parts[0]}}}", ATOM
    if name == "square":
        return f"{{{_text(arguments[0], ATOM)}}}^2", ATOM
    if name == "abs":
        return rf"\left|{parts[0]}\right|", ATOM
    if name in ("maximum", "minimum"):
        return rf"\{name[:3]}\left({', '.join(parts)}\right)", ATOM
    if name == "sign":
        return rf"\operatorname{{sign}}\left({parts[0]}\right)", ATOM
    if name == "copysign":
        return rf"\left|{parts[0]}\right| \operatorname{{sign}}\left({parts[1]}\right)", PRODUCT
    if name == "where":
        cases = r" \\ ".join(_cases(arguments))
        return rf"\begin{{cases}} {cases} \end{{cases}}", ATOM
    raise NoFormulaError(f"xp.{name}")
