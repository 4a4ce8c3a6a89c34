"""The programs of the gallery run as the notebooks that readers download."""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from backends import BACKENDS
from places import ROOT

PROGRAMS = [
    path
    for path in sorted((ROOT / "docs" / "examples").glob("*.py"))
    if re.match(r'"""\n.+\n=+\n', path.read_text(encoding="utf-8"))
]


def test_the_gallery_has_what_begins_with_a_title() -> None:
    names = {path.stem for path in PROGRAMS}
    assert {"plot_digits", "numpy_training", "torch_training", "jax_training"} <= names
    left_out = re.search(r'"ignore_pattern": r"\((.*?)\)', (ROOT / "docs/conf.py").read_text())
    assert left_out is not None
    everything = {path.stem for path in (ROOT / "docs" / "examples").glob("*.py")}
    assert everything - names == set(left_out.group(1).split("|"))


def obstacle(program: Path) -> str:
    """Return what a notebook lacks here, or nothing."""
    text = program.read_text(encoding="utf-8")
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, flags=re.MULTILINE))
    imported |= {"ipykernel", "nbclient", "sphinx_gallery"}
    missing = sorted(name for name in imported if find_spec(name) is None)
    left_out = imported & {"torch", "jax", "keras"} - {backend.name for backend in BACKENDS}
    return ", ".join(missing or sorted(left_out - {"keras"}))


def executed(program: Path, folder: Path) -> list[Any]:
    """Return the outputs of a program as a notebook."""
    import nbclient
    import nbformat
    from sphinx_gallery.notebook import python_to_jupyter_cli

    source = Path(shutil.copy(program, folder))
    python_to_jupyter_cli([str(source)])
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the machinery of notebooks
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_notebook(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs from the first cell to the last, and shows a picture, or prints what it found."""
    if lacking := obstacle(program):
        pytest.skip(f"needs {lacking}")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    outputs = executed(program, tmp_path)
    shown = {kind for output in outputs for kind in output.get("data", {output.output_type: ""})}
    assert ("image/png" if program.stem.startswith("plot_") else "stream") in shown
    assert not [output for output in outputs if output.get("name") == "stderr"], outputs
