"""The README: its examples run, and what it counts is that of the registry."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import arrayoptim as ao
import made
from backends import BACKENDS
from places import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


def runnable(example: str) -> bool:
    """Whether the libraries of an example are installed, or among the backends under test."""
    imported = set(re.findall(r"^(?:import|from) (\w+)", example, flags=re.MULTILINE))
    chosen = {backend.name for backend in BACKENDS}
    if "scipy" in imported and find_spec("scipy") is None:
        return False
    # Only a process of its own can choose a backend for Keras; see test_keras.
    return "keras" not in imported and not (imported & {"torch", "jax"}) - chosen


@pytest.mark.parametrize("example", list(filter(runnable, EXAMPLES)))
def test_example(example: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("page", made.PAGES)
def test_what_is_made(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert made.PAGES[page](text) == text, "run: python docs/made.py"


def test_all_optimizers_are_counted_and_listed() -> None:
    assert f"{len(ao.names())} of them" in TEXT
    table = (ROOT / "docs/optimizers/at_a_glance.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)`", table, flags=re.M) == ao.names()


@pytest.mark.parametrize("page", ["README.md", "docs/getting_started.rst"])
def test_the_extras_are_those_of_the_package(page: str) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = project.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    names = re.findall(r"^(\w+) = ", declared, flags=re.M)
    text = (ROOT / page).read_text(encoding="utf-8").partition("`autograd`")
    listed = re.findall(r"`(\w+)`", f"`autograd`{text[2].partition('.')[0]}")
    assert sorted(listed) == sorted(names)


def test_the_example_for_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """On NumPy, which has what it uses of CuPy."""
    (example,) = re.findall(r"^```py\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
    code = example.replace("import cupy as cp", "import numpy as cp")
    assert code != example
    scope: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert abs(scope["error"]).max() < 0.05


def test_it_fits_on_a_screen() -> None:
    """What it is, why, how to install and begin, and the table of frameworks."""
    assert len(TEXT.splitlines()) < 125
    assert len(TEXT.partition("## What sets it apart")[0].splitlines()) < 80
