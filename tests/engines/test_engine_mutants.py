"""Engines broken on purpose: their own tests must notice; `nox -s mutants` tries other lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutation import ENGINES, PACKAGE, Mutant, copied, mutants, noticed
from places import ROOT

BROKEN = [
    (
        "engines/array/single.py",
        'new["master"] = backend.array(x)',
        'new["master"] = slots["master"]',
    ),
    ("engines/cpu/source.py", "            front += 1", "            front += 2"),
    ("engines/cpu/sweep.py", "+= lanes_total(l_{u})", "+= 2.0 * lanes_total(l_{u})"),
    ("engines/gpu/element.py", "master = p;", "master = 0 * p;"),
    ("rules/stages.py", "return keep * e + new * p", "return keep * e - new * p"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    copied(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("path", "before", "after"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_broken_line(copy: Path, path: str, before: str, after: str) -> None:
    text = (ROOT / PACKAGE / path).read_text(encoding="utf-8")
    assert text.count(before) == 1
    assert noticed(Mutant(path, 1, before, after, text.replace(before, after)), copy)


def test_there_are_mutants_of_every_engine() -> None:
    """Each is Python that can be compiled, and differs in one line."""
    for room in ENGINES:
        place = ROOT / PACKAGE / room
        file = place if place.suffix else max(place.glob("*.py"), key=lambda f: f.stat().st_size)
        lines = file.read_text(encoding="utf-8").splitlines()
        found = list(mutants(file.relative_to(ROOT / PACKAGE).as_posix()))
        assert len(found) > 10
        for mutant in found[:10]:
            compile(mutant.text, mutant.path, "exec")
            new = mutant.text.splitlines()
            assert [a for a, b in zip(lines, new, strict=True) if a != b] == [
                lines[mutant.line - 1]
            ]
