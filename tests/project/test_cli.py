"""The command line: what it prints, what it writes, how it leaves."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim._cli import backends as cli_backends
from arrayoptim._cli.info import LIBRARIES
from arrayoptim.arrays.libraries import _BACKENDS, named
from arrayoptim.engines import MODES
from command_line import call, process
from places import ROOT, TESTS

Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
H5 = TESTS / "golden" / "h5"
GOLDEN = sorted(file for file in H5.glob("*_adam.*") if file.suffix != ".npz")

# ---- the frame


def test_without_arguments_it_prints_help(capsys: Captured) -> None:
    code, out, err = call(capsys)
    assert code == 0
    assert not err
    assert all(word in out for word in ("info", "inspect", "demo", "plot-schedule", "examples"))


def test_version(capsys: Captured) -> None:
    assert call(capsys, "--version") == (0, f"arrayoptim {ao.__version__}\n", "")


@pytest.mark.parametrize("name", ["info", "inspect", "demo", "plot-schedule"])
def test_every_command_has_help(capsys: Captured, name: str) -> None:
    code, out, _ = call(capsys, name, "--help")
    assert code == 0
    assert f"python -m arrayoptim {name}" in out


@pytest.mark.parametrize(
    "argv",
    [
        ["nonsense"],
        ["inspect"],
        ["demo", "--epochs", "0"],
        ["demo", "--seed", "-1"],
        ["demo", "--backend", "abacus"],
    ],
)
def test_bad_usage_leaves_with_2(capsys: Captured, argv: list[str]) -> None:
    code, _, err = call(capsys, *argv)
    assert code == 2
    assert "error:" in err


def test_a_schedule_is_all_that_plot_schedule_requires(capsys: Captured) -> None:
    """Most take arguments, but some take none."""
    _, _, err = call(capsys, "plot-schedule")
    assert err.endswith("error: the following arguments are required: SCHEDULE\n")


def test_it_runs_as_a_process() -> None:
    result = process("inspect", "nothing.h5")
    assert result.returncode == 1
    assert result.stderr == "python -m arrayoptim: error: no such file: nothing.h5\n"


# ---- info


def test_info_lists_libraries_and_engines(capsys: Captured) -> None:
    code, out, _ = call(capsys, "info")
    assert code == 0
    for word in ("arrayoptim", *LIBRARIES, "cpu", "gpu"):
        assert word in out
    assert np.__version__ in out


def test_info_as_json(capsys: Captured) -> None:
    code, out, _ = call(capsys, "info", "--json")
    content = json.loads(out)
    assert code == 0
    assert content["backends"]["numpy"]["usable"]
    assert content["engines"]["array"]["usable"]
    assert list(content["backends"]) == list(LIBRARIES)
    assert content["versions"]["numpy"] == np.__version__


def test_info_lists_what_arrays_and_engines_there_are(capsys: Captured) -> None:
    """Every library that is served, and the engines by the names that `engine` takes."""
    content = json.loads(call(capsys, "info", "--json")[1])
    assert {named(name).name for name in content["backends"]} == {
        b.name for b in _BACKENDS.values()
    }
    assert list(content["engines"]) == [name for name in MODES if name != "auto"]


@pytest.mark.parametrize("reason", [None, "CuPy is not installed"])
def test_info_says_what_the_gpu_engine_lacks(
    capsys: Captured, monkeypatch: Patch, reason: str | None
) -> None:
    monkeypatch.setattr("arrayoptim._cli.info.obstacle", lambda: reason)
    _, out, _ = call(capsys, "info", "--json")
    found = json.loads(out)["engines"]["gpu"]
    assert found["usable"] is (reason is None)
    assert (reason or "CuPy arrays, torch tensors on GPUs") in found["note"]


def test_a_missing_library_is_not_installed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(cli_backends, "installed", lambda name: False)
    assert cli_backends.probe("torch").note == "not installed"


@pytest.mark.parametrize(
    ("message", "note"),
    [
        ("cudaErrorNoDevice: none", "no GPU or no driver"),
        ("some\nfault", "import fails with RuntimeError: some fault"),
    ],
)
def test_a_broken_library_says_why(monkeypatch: Patch, message: str, note: str) -> None:
    class Broken:
        @property
        def xp(self) -> Any:
            raise RuntimeError(message)

    monkeypatch.setattr(cli_backends, "named", lambda name: Broken())
    found = cli_backends.probe("numpy")
    assert not found.usable
    assert note in found.note


# ---- inspect


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.name)
def test_inspect_reads_every_format(capsys: Captured, file: Path) -> None:
    code, out, err = call(capsys, "inspect", file)
    assert (code, err) == (0, "")
    assert all(word in out for word in ("momentum", "velocity", "float32"))
    code, out, _ = call(capsys, "inspect", file, "--json")
    content = json.loads(out)
    assert content["class"] == (None if content["source"] == "natural_bm" else "Adam")
    assert content["iterations"] > 0
    assert {entry["dtype"] for entry in content["slots"]} <= {"float32", "float64"}


def test_inspect_of_its_own_file(capsys: Captured, tmp_path: Path) -> None:
    params = {"layers": [np.zeros((2, 3), np.float32), np.zeros((), np.float64)]}
    optimizer = ao.Nadam(lr=0.25)
    optimizer.apply(params, params)
    file = tmp_path / "own.h5"
    optimizer.save_weights(file)
    code, out, _ = call(capsys, "inspect", file)
    assert code == 0
    for word in ("Nadam", "0.25", "m_schedule", "velocity", "layers/0", "2 x 3", "float64"):
        assert word in out


def test_inspect_shortens_long_lists(capsys: Captured, tmp_path: Path) -> None:
    params = [np.zeros(1, np.float32) for _ in range(100)]
    optimizer = ao.SGD()
    optimizer.init(params)
    file = tmp_path / "long.h5"
    optimizer.save_weights(file)
    assert "... and 40 more; --json lists all" in call(capsys, "inspect", file)[1]
    assert len(json.loads(call(capsys, "inspect", file, "--json")[1])["slots"]) == 100


@pytest.fixture(params=["missing", "directory", "text", "empty", "foreign", "truncated"])
def bad_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a file that holds no optimizer state."""
    file = tmp_path / f"{request.param}.h5"
    if request.param == "directory":
        file.mkdir()
    elif request.param in {"text", "empty"}:
        file.write_text("not HDF5" * 99 if request.param == "text" else "")
    elif request.param == "foreign":
        with h5py.File(file, "w") as content:
            content["something"] = np.zeros(3)
    elif request.param == "truncated":
        optimizer = ao.SGD()
        optimizer.init(np.zeros(1000, np.float32))
        optimizer.save_weights(file)
        file.write_bytes(file.read_bytes()[:2000])
    return file


def test_inspect_of_a_bad_file_is_one_line(capsys: Captured, bad_file: Path) -> None:
    result = call(capsys, "inspect", bad_file)
    assert (result.code, result.out) == (1, "")
    assert result.complaint
    assert bad_file.name in result.err
    assert result.err.count(bad_file.name) == 1


# ---- the documentation

PAGE = (ROOT / "docs" / "command_line.rst").read_text(encoding="utf-8")
SHOWN = re.findall(r"^   \$ python -m arrayoptim (.*)\n((?:   .*\n|\n)*)", PAGE, re.MULTILINE)


@pytest.mark.slow
def test_what_the_documentation_shows(capsys: Captured, tmp_path: Path, monkeypatch: Patch) -> None:
    """Each command prints what stands there, one after the other in the same directory."""
    for package in ("matplotlib", "sklearn", "tqdm"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    assert [line.split()[0] for line, _ in SHOWN] == ["info", "demo", "inspect", "plot-schedule"]
    same = doctest.OutputChecker().check_output
    for line, wanted in SHOWN:
        code, out, _ = call(capsys, *line.split())
        assert code == 0
        assert same(wanted, out, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), out
