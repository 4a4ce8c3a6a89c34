"""The example of the documentation runs, and shows what it says."""

from __future__ import annotations

import runpy

import pytest

from places import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "torch_training.py"


def test_example(capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped half-way and resumed is as good as never stopped."""
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    whole, resumed = capsys.readouterr().out.split(";")
    assert whole.split()[-1] == resumed.split()[-1]
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 66
