"""An optimizer that is added to a copy of the library: its file, and a line in `optimizers`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from places import ROOT

FILE = '''
"""Halving."""

from ..config.hyper import hyper
from ..config.registry import register
from ..config.typed import Number
from ..optimizer import Optimizer
from ..rules.rule import rule


@rule(slots=("velocity",))
def halving(p, g, v, lr, b, c, eps, xp):
    v = b * v + c * (g * g)
    return p - lr * (g / (xp.sqrt(v) + eps)), v


@register
class Halving(Optimizer):
    """Divide the gradient by a root mean square that forgets half at each step."""

    lr: Number = hyper(default=0.01, interval="[0, inf)", doc="Step size.")
    keep: Number = hyper(default=0.5, interval="[0, 1)", doc="Share that is kept.")

    rule = halving

    def coefficients(self, h, it, scalars, xp):
        """Compute the coefficients of one step."""
        return {"lr": h.lr, "b": h.keep, "c": 1.0 - h.keep, "eps": 1e-8}
'''
LINE = "    from .halving import Halving as Halving\n"
USAGE = """
from typing_extensions import assert_type
import arrayoptim as ao

assert_type(ao.Halving(0.1, keep=0.9, clipnorm=1.0), ao.Halving)
assert_type(ao.Halving().keep, float)
ao.Halving(keap=0.9)  # type: ignore[call-arg]
ao.Adam(0.1, 0.9, clipnorm=1.0)
"""


def run(copy: Path, *words: str) -> str:
    """Run Python in the copy and return what it prints."""
    paths = [str(copy / "src"), str(copy / "docs")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "KERAS_BACKEND": "torch"}
    env |= {"ARRAYOPTIM_TEST_BACKENDS": "numpy"}
    done = subprocess.run([sys.executable, *words], cwd=copy, env=env, capture_output=True)
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, told
    return told


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the checkout with one optimizer more."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("src", "tests", "docs", "asv_benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "_build", "generated", ".asv")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("README.md", "CHANGELOG.md", "pyproject.toml", "noxfile.py"):
        shutil.copy(ROOT / name, copy)
    room = copy / "src" / "arrayoptim" / "optimizers"
    (room / "halving.py").write_text(FILE.lstrip(), encoding="utf-8")
    lines = (room / "__init__.py").read_text(encoding="utf-8")
    before = "    from .lamb import"
    assert before in lines
    (room / "__init__.py").write_text(lines.replace(before, LINE + before), encoding="utf-8")
    return copy


def test_it_is_public_and_found_by_name(copy: Path) -> None:
    code = (
        "import numpy as np, arrayoptim as ao\n"
        "assert 'Halving' in ao.__all__ and 'Halving' in dir(ao) and 'Halving' in ao.names()\n"
        "assert 'halving' not in dir(ao)\n"
        "print(ao.get('halving'), ao.Halving(learning_rate=1.0).apply(np.ones(1), np.zeros(1)))"
    )
    told = run(copy, "-c", code)
    assert "Halving(lr=0.01, keep=0.5)" in told


@pytest.mark.slow
def test_the_readme_and_the_pages_have_it(copy: Path) -> None:
    run(copy, "-m", "made")
    table = (copy / "docs/optimizers/at_a_glance.md").read_text(encoding="utf-8")
    assert "| `Halving` | Divide the gradient by a root mean square that forgets" in table
    run(copy, "-c", "import optimizer_pages; optimizer_pages.write()")
    page = copy / "docs" / "optimizers" / "generated" / "Halving.rst"
    assert "``keep``" in page.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_type_checkers_see_it(copy: Path, checker: str) -> None:
    if find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    (copy / "usage.py").write_text(USAGE, encoding="utf-8")
    options = {"mypy": ["--config-file=", "--strict"], "basedpyright": ["--level=error"]}
    run(copy, "-m", checker, *options[checker], "usage.py")


@pytest.mark.slow
def test_the_suite_sweeps_it(copy: Path) -> None:
    """Conformance, dtypes, files and the pages' own tests find it by themselves."""
    run(copy, "-m", "made")
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "Halving"]
    told = run(copy, *words, "tests/conformance", "tests/persistence", "tests/unit")
    passed = [word for word in told.split("\n") if " passed" in word]
    assert passed and int(passed[0].split(" passed")[0].split()[-1]) > 40
    run(copy, *words[:-2], "tests/project/test_public_names.py", "tests/project/test_readme.py")
