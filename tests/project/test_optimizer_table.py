"""The table of optimizers in the documentation: every row from the registry, no invented time."""

from __future__ import annotations

import sys

import pytest

import arrayoptim as ao
from places import ROOT

DOCS = ROOT / "docs"


def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each optimizer; a time where the report has one, and where not, that it has none."""
    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    import optimizer_table as made

    report = made.read()
    rows = made.rows(report)
    assert [row[0] for row in rows] == [f":class:`~arrayoptim.{name}`" for name in ao.names()]
    cells = dict(zip(ao.names(), (row[1:] for row in rows), strict=True))
    adam = report.sections["Adam, S3: 10 of 1,000,000"]
    peers = [who for who in adam if not who.startswith(("limit", "this library"))]
    fastest = min(peers, key=lambda who: float(adam[who]))
    first = f"{adam[fastest]} ({fastest})"
    ours = adam["this library, NumPy arrays"]
    assert cells["Adam"] == [*("``momentum``, ``velocity``", "8", "cpu, gpu", ours, first)]
    assert cells["LAMB"][2:] == ["cpu, gpu", made.NOTHING, made.NOTHING]
    assert cells["Shampoo"][2] == made.NOTHING
    assert cells["Lion"][-1] == made.NOTHING != cells["Lion"][-2]
    assert report.where in made.note(report) and "AMD" in report.where
