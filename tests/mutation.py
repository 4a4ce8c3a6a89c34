"""Break a line of an engine on purpose, and see whether the tests of that engine notice.

``python -m mutation`` (``nox -s mutants``) tries some lines, chosen by a seed, in a copy of the
checkout, and prints those whose change no test noticed. Of a line that only decides how fast a step
is, such as a threshold, no test has to notice.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from places import ROOT

PACKAGE = Path("src") / "arrayoptim"
CONFORMANCE = "tests/conformance/test_conformance.py"
ENGINES = {
    "engines/array": [CONFORMANCE, "tests/unit/test_clipping.py", "tests/unit/test_cautious.py"],
    "engines/cpu": ["tests/engines/test_cpu_engine.py", "tests/engines/test_cpu_engine_state.py",
                    "tests/engines/test_cpu_engine_memory.py", CONFORMANCE],
    "engines/gpu": ["tests/engines/test_gpu_source.py", "tests/engines/test_gpu_engine.py",
                    "tests/engines/test_gpu_programs.py",
                    "tests/engines/test_gpu_clipping.py"],
    "rules/stages.py": ["tests/conformance/test_stages.py", "tests/unit/test_clipping.py"],
}  # fmt: skip
"""What is broken, and the tests that are run for it, the likeliest to notice first."""

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


@dataclass(frozen=True)
class Mutant:
    """A file of the package with one line that is another one.

    Attributes
    ----------
    path : str
        The file, below the package.
    line : int
        Where the change is.
    before, after : str
        What stood there, and what stands there now.
    text : str
        The whole file.
    """

    path: str
    line: int
    before: str
    after: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"


def changed(node: ast.AST, source: str) -> str | None:
    """Return an expression or statement with one operator, number or condition changed."""
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS and not _texts(node):
        node.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        node.ops[0] = SWAPS[type(node.ops[0])]()  # type: ignore[assignment]
    elif isinstance(node, ast.BoolOp):
        node.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ast.unparse(node.operand)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, bool):
        return repr(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        return _broken(source)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return "pass"
    else:
        return None
    return ast.unparse(node)


def mutants(path: str) -> Iterator[Mutant]:
    """Yield a mutant for each place of a file that can be changed."""
    text = (ROOT / PACKAGE / path).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    tree = ast.parse(text)
    typing = {id(x) for node in ast.walk(tree) for x in _annotations(node)}
    for node in ast.walk(tree):
        if id(node) in typing or getattr(node, "lineno", 0) != getattr(node, "end_lineno", 1):
            continue
        whole = lines[node.lineno - 1].encode()  # type: ignore[attr-defined]
        start, end = node.col_offset, node.end_col_offset  # type: ignore[attr-defined]
        before = whole[start:end].decode()
        after = changed(node, before)
        if after is None or after == before:
            continue
        bare = isinstance(node, ast.Expr | ast.Constant | ast.JoinedStr)
        wrapped = after if bare else f"({after})"
        line = (whole[:start] + wrapped.encode() + whole[end:]).decode()
        at = node.lineno  # type: ignore[attr-defined]
        yield Mutant(path, at, before, after, "".join([*lines[: at - 1], line, *lines[at:]]))


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what only type checkers and readers see, and the pieces of texts with braces."""
    found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    found += getattr(node, "values", []) if isinstance(node, ast.JoinedStr) else []
    body = getattr(node, "body", None)
    if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
        found += [body[0]] if isinstance(body[0].value, ast.Constant) else []
    for part in found:
        yield from ast.walk(part) if part is not None else ()


def _texts(node: ast.BinOp) -> bool:
    return any(isinstance(x, ast.Constant) and isinstance(x.value, str) for x in ast.walk(node))


def _broken(text: str) -> str:
    """Return a line of a kernel with its first operator exchanged."""
    if text.count(" ") > 12 or not any(mark in text for mark in ("(", ";", "=")):
        return text
    for a, b in ((" + ", " - "), (" * ", " + "), (" < ", " >= "), (" == ", " != "), (" & ", " | ")):
        if a in text:
            return text.replace(a, b, 1)
    return text


def chosen(count: int, seed: int, of: str = "") -> list[Mutant]:
    """Return some mutants of all engines, or of the files whose path begins so."""
    every: list[Mutant] = []
    for room in ENGINES:
        place = ROOT / PACKAGE / room
        for file in [place] if place.suffix else sorted(place.glob("*.py")):
            path = file.relative_to(ROOT / PACKAGE).as_posix()
            every += mutants(path) if path.startswith(of) else []
    return random.Random(seed).sample(every, min(count, len(every)))


def copied(folder: Path) -> None:
    """Copy what the tests need."""
    ignored = shutil.ignore_patterns("__pycache__", "_build", ".asv")
    for name in ("src", "tests", "docs", "asv_benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("README.md", "CHANGELOG.md", "pyproject.toml", "noxfile.py"):
        shutil.copy(ROOT / name, folder)


def noticed(mutant: Mutant, copy: Path, seconds: float = 600.0) -> bool:
    """Return whether the tests of its engine fail in the copy with the mutant.

    Parameters
    ----------
    mutant : Mutant
        What is changed, and changed back afterwards.
    copy : Path
        A copy of the checkout.
    seconds : float
        A mutant that hangs for so long is noticed.
    """
    tests = next(tests for room, tests in ENGINES.items() if mutant.path.startswith(room))
    file = copy / PACKAGE / mutant.path
    before = file.read_text(encoding="utf-8")
    file.write_text(mutant.text, encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ARRAYOPTIM_TEST_BACKENDS": "numpy",
        "ARRAYOPTIM_CACHE_DIR": str(copy / "cache"),
    }
    words = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not every"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words, *tests],
            cwd=copy, env=environment, capture_output=True, check=False, timeout=seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return True
    finally:
        file.write_text(before, encoding="utf-8")
    return done.returncode != 0


def main() -> int:
    """Carry out the command line; the exit status says whether too many lived."""
    parser = argparse.ArgumentParser(prog="mutation", description=__doc__)
    parser.add_argument("--count", type=int, default=40, help="how many lines (40)")
    parser.add_argument("--seed", type=int, default=0, help="which lines (0)")
    parser.add_argument("--of", default="", help="only files below the package that begin so")
    parser.add_argument("--least", type=float, default=0.7, help="share to be noticed (0.7)")
    options = parser.parse_args()
    found = chosen(options.count, options.seed, options.of)
    alive = []
    with tempfile.TemporaryDirectory() as folder:
        copied(Path(folder))
        for mutant in found:
            seen = noticed(mutant, Path(folder))
            print("noticed " if seen else "LIVED   ", mutant, flush=True)
            alive += [] if seen else [mutant]
    share = 1 - len(alive) / max(1, len(found))
    print(f"{len(found) - len(alive)} of {len(found)} noticed")
    return int(share < options.least)


if __name__ == "__main__":
    raise SystemExit(main())
