"""The pages: what no other test of them sees."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from places import ROOT

DOCS = ROOT / "docs"
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.rst"))
    if not {"_build", "gallery", "generated"} & set(page.relative_to(DOCS).parts)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_tables_are_lists(page: Path) -> None:
    """In a drawn table a cell that goes on in the next line may become a row of its own."""
    drawn = re.findall(r"^ *(?:=+ +=+|\+[-=]+\+).*$", page.read_text(encoding="utf-8"), re.M)
    assert not drawn, "write it as a list-table"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_rows_of_a_list_table_have_equally_many_cells(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for part in re.split(r"^ *\.\. list-table::.*$", text, flags=re.M)[1:]:
        counts: list[int] = []
        for line in part.splitlines():
            if re.match(r" +\* - ", line):
                counts.append(1)
            elif re.match(r" +-( |$)", line) and counts:
                counts[-1] += 1
            elif line and not line.startswith(" "):
                break
        assert len(set(counts)) == 1, counts


def links() -> list[tuple[str, str]]:
    found = []
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"):
        text = page.read_text(encoding="utf-8")
        found += [(page.name, target) for target in re.findall(r"\]\(([^)#:]+)\)", text)]
    return found


@pytest.mark.parametrize(("page", "target"), links())
def test_links_lead_somewhere(page: str, target: str) -> None:
    assert (ROOT / target).exists()


def test_every_page_is_in_the_contents() -> None:
    listed = {
        name
        for page in PAGES
        for block in re.findall(
            r"^\.\. toctree::\n((?:\n| +.*\n)+)", page.read_text(encoding="utf-8") + "\n", re.M
        )
        for name in re.findall(r"^ +([\w/*]+)$", block, re.M)
    }
    names = {page.stem for page in PAGES}
    assert {"getting_started", "which_optimizer", "cheat_sheet", "checkpoints", "faq"} <= names
    for page in PAGES:
        name = str(page.relative_to(DOCS).with_suffix(""))
        included = page.stem in {"index", "parity_table"}
        assert included or {name, page.stem} & listed, f"{name} is in no toctree"


def test_the_cheat_sheet_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = (DOCS / "cheat_sheet.rst").read_text(encoding="utf-8")
    block = re.search(r"code-block:: python\n\n((?:\n|   .*\n)+)", page)
    assert block is not None
    code = re.sub(r"^   ", "", block.group(1), flags=re.M)
    monkeypatch.chdir(tmp_path)
    params, grads = {"w": np.ones(2)}, {"w": np.ones(2)}

    def loss(tree: Any) -> tuple[float, Any]:
        return float(np.sum(tree["w"] ** 2)), {"w": 2.0 * tree["w"]}

    scope: dict[str, Any] = {"params": params, "grads": grads, "loss": loss}
    steps = ("ao.save_checkpoint", "optimizer.reset()")
    for line in code.splitlines():
        if line.startswith(steps[0]):  # what the lines above have forgotten
            scope["optimizer"].init(scope["params"])
        exec(line, scope)
    assert scope["extra"] == {"epoch": 3}


def test_the_arguments_of_the_cheat_sheet_are_there() -> None:
    page = (DOCS / "cheat_sheet.rst").read_text(encoding="utf-8")
    table = page.split("give the optimizer", 1)[1].split("What others call it")[0]
    names = set(re.findall(r"``([a-z_0-9]+)=", table)) - {"every"}
    assert len(names) > 8
    assert names <= set(ao.Adam.hyperparameters)


def test_the_measured_problems_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the table of optimizers is measured with: gradients are those of the losses."""
    pytest.importorskip("sklearn")
    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    import which_measured

    rng = np.random.default_rng(0)
    for loss, start, x, y in which_measured.problems().values():
        params = {k: rng.normal(scale=0.1, size=v.shape) for k, v in start.items()}
        _, grads = loss(params, x[:50], y[:50])
        for key, value in params.items():
            place = tuple(rng.integers(0, n) for n in value.shape)
            near = {k: v.copy() for k, v in params.items()}
            near[key][place] += 1e-6
            slope = (loss(near, x[:50], y[:50])[0] - loss(params, x[:50], y[:50])[0]) / 1e-6
            assert abs(grads[key][place] - slope) < 1e-4
    problem = which_measured.problems()["diabetes, linear"]
    monkeypatch.setattr(which_measured, "EPOCHS", 3)
    losses = which_measured.trained("SGD", 1e-2, problem)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("asked", "page"),
    [
        ("clip gradients", "options"),
        ("weight decay", "options"),
        ("resume", "checkpoints"),
        ("TensorBoard", "reading_a_run"),
        ("learning rate schedule", "schedules"),
        ("mixed precision", "small_state"),
        ("gradient accumulation", "wrappers"),
        ("install", "getting_started"),
        ("early stopping", "minimize"),
        ("LBFGS", "lbfgs"),
        ("multi GPU", "one_machine"),
        ("freeze layers", "options"),
    ],
)
def test_what_people_search_for_is_an_entry_of_one_page(asked: str, page: str) -> None:
    """Which the search of the pages puts first."""
    found = [p.stem for p in PAGES if f"   ! single: {asked}\n" in p.read_text(encoding="utf-8")]
    assert found == [page]
