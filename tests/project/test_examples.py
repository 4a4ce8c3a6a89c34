"""The examples of the documentation for NumPy and JAX run, and show what they say."""

from __future__ import annotations

import runpy

import pytest

from places import ROOT

EXAMPLES = ROOT / "docs" / "examples"


def shown(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run an example, and return what it prints."""
    path = EXAMPLES / name
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 66
    runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out


def test_numpy(capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped half-way and resumed is as good as never stopped."""
    whole, resumed = shown("numpy_training.py", capsys).split(";")
    assert whole.split()[-1] == resumed.split()[-1]


@pytest.mark.needs("jax")
def test_jax(capsys: pytest.CaptureFixture[str]) -> None:
    """Each learning rate has a course of its own."""
    losses = [line.split()[-4] for line in shown("jax_training.py", capsys).splitlines()]
    assert len(set(losses)) == 3
