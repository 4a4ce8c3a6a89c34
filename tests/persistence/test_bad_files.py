"""Files that are missing, broken, foreign or newer, and saves that fail: nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import arrayoptim as ao
from backends import NUMPY
from optimizers_under_test import NAMES, draw, make, same, snapshot, train, unchanged


def trained(name: str, steps: int = 2) -> tuple[Any, list[np.ndarray]]:
    """Return an optimizer after some steps, and its parameters."""
    opt = make(name)
    return opt, train(opt, NUMPY, draw(1), range(steps), "float64")


def refuses(opt: Any, path: Path, kind: type[Exception], word: str) -> None:
    """Assert that loading raises, names the file and changes neither optimizer nor file."""
    before = snapshot(opt)
    content = path.read_bytes() if path.is_file() else None
    with pytest.raises(kind) as caught:
        opt.load_weights(path)
    assert word.lower() in str(caught.value).lower(), caught.value
    unchanged(opt, before)
    assert (path.read_bytes() if path.is_file() else None) == content


def test_missing(name: str, tmp_path: Path) -> None:
    """A file that is not there."""
    refuses(trained(name)[0], tmp_path / "nothing.h5", FileNotFoundError, "nothing.h5")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_truncated(name: str, tmp_path: Path, part: float) -> None:
    """A file that ends too early, wherever."""
    opt, _ = trained(name, 3)
    path = tmp_path / "cut.h5"
    opt.save_weights(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    refuses(trained(name)[0], path, ValueError, path.name)


# Workers that collect in parallel want the same bytes.
NOISE = np.random.default_rng(0).bytes(5000)


@pytest.mark.parametrize("content", [b"", b"weights", b"PK\x03\x04 not a zip", NOISE])
def test_not_hdf5(name: str, tmp_path: Path, content: bytes) -> None:
    """Something else under that name."""
    path = tmp_path / "other.h5"
    path.write_bytes(content)
    refuses(trained(name)[0], path, ValueError, path.name)


def test_no_optimizer_in_it(name: str, tmp_path: Path) -> None:
    """Good HDF5 with other things inside."""
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as f:
        f["model_weights/dense/kernel"] = np.ones((2, 3))
    refuses(trained(name)[0], path, ValueError, "optimizer")


def test_another_class(name: str, tmp_path: Path) -> None:
    """The state of another optimizer; the message names both."""
    other = next(n for n in NAMES if n != name)
    path = tmp_path / "other.h5"
    trained(other)[0].save_weights(path)
    refuses(trained(name)[0], path, ValueError, other)


def rewrite_attribute(path: Path, words: tuple[str, ...], value: Callable[[Any], Any]) -> None:
    """Change the attribute whose name has one of the words, wherever it is in a file."""
    changed = []

    def visit(_: str, node: Any) -> None:
        for key in list(node.attrs):
            if any(word in key.lower() for word in words):
                node.attrs[key] = value(node.attrs[key])
                changed.append(key)

    with h5py.File(path, "r+") as f:
        visit("/", f)
        f.visititems(visit)
    assert len(changed) == 1


def test_newer_format(name: str, tmp_path: Path) -> None:
    """A later version of the layout is not guessed at."""
    path = tmp_path / "newer.h5"
    trained(name, 3)[0].save_weights(path)
    rewrite_attribute(path, ("format",), lambda old: type(old)(int(old) + 2))
    refuses(trained(name)[0], path, ValueError, "newer")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.5, -1.0])
def test_a_counter_that_is_none(name: str, tmp_path: Path, value: float) -> None:
    """A step number that is not one."""
    path = tmp_path / "counter.h5"
    trained(name, 3)[0].save_weights(path)
    found: list[str] = []
    with h5py.File(path, "r+") as f:
        f.visit(lambda key: found.append(key) if key.split("/")[-1] == "iterations" else None)
        assert len(found) == 1
        attributes = dict(f[found[0]].attrs)
        del f[found[0]]
        dataset = f.create_dataset(found[0], data=np.float64(value))
        for key, attribute in attributes.items():
            dataset.attrs[key] = attribute
    refuses(trained(name)[0], path, ValueError, "iterations")


def test_other_parameters(name: str, tmp_path: Path) -> None:
    """A file of another tree: missing, unexpected and misshapen are told apart."""
    path = tmp_path / "tree.h5"
    opt = make(name)
    opt.apply({"a": np.ones(3), "b": np.ones(2)}, {"a": np.ones(3), "b": np.ones(2)})
    opt.save_weights(path)
    other = make(name)
    params = {"a": np.ones(4), "c": np.ones(2)}
    other.apply({"a": np.ones(4), "c": np.ones(2)}, params)
    before = snapshot(other)
    with pytest.raises(ValueError, match=r"(?s)missing.*unexpected.*misshapen"):
        other.load_weights(path)
    unchanged(other, before)


def test_no_overwriting(name: str, tmp_path: Path) -> None:
    """The file that is there stays as it is."""
    path = tmp_path / "weights.h5"
    trained(name)[0].save_weights(path)
    content = path.read_bytes()
    with pytest.raises(FileExistsError, match=path.name):
        trained(name, 3)[0].save_weights(path, overwrite=False)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


DISASTERS = {
    "killed": """
        import os, signal
        def die(*args):
            os.kill(os.getpid(), signal.SIGKILL)
        os.{hook} = die
        opt.save_weights(path)
    """,
    "full": """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
        try:
            opt.save_weights(path)
        except OSError as error:
            print("OSError", error)
    """,
}
PROGRAM = """
import sys
import numpy as np
import arrayoptim as ao
path = sys.argv[1]
opt = ao.Adam()
opt.apply([np.ones(20_000)], [np.zeros(20_000)])
"""


def survive(path: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a save that goes wrong, in a process of its own, over a good file."""
    opt = make("Adam")
    opt.apply([np.full(5, 2.0)], [np.zeros(5)])
    opt.save_weights(path)
    content = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(program), str(path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert path.read_bytes() == content
    again = make("Adam")
    again.init([np.zeros(5)])
    again.load_weights(path)
    same(again.get_weights(), opt.get_weights())
    return done


@pytest.mark.parametrize("hook", ["fsync", "replace"])
def test_killed_while_saving(tmp_path: Path, hook: str) -> None:
    """The previous file is whole, whenever the process dies."""
    done = survive(tmp_path / "w.h5", DISASTERS["killed"].format(hook=hook))
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("size", [0, 3_000, 100_000])
def test_full_disk(tmp_path: Path, size: int) -> None:
    """An OSError, the previous file is whole, and no half one is left beside it."""
    done = survive(tmp_path / "w.h5", DISASTERS["full"].format(size=size))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("OSError")
    assert list(tmp_path.iterdir()) == [tmp_path / "w.h5"]


def test_saved_with_a_schedule(tmp_path: Path) -> None:
    """No file holds a function: the message says how to go on, and then one can."""
    path = tmp_path / "w.h5"
    opt = make("Adam", lr=halving)
    opt.apply([np.ones(3)], [np.zeros(3)])
    opt.save_weights(path)
    for load in (ao.load, make("Adam").load_weights):
        with pytest.raises(ValueError, match=r"w\.h5.* schedule for lr .*halving.*construct"):
            load(path)
    again = make("Adam", lr=halving)
    again.load_weights(path)
    assert (again.lr, again.iterations) == (0.5, 1)


def halving(step: int) -> float:
    """Return a learning rate."""
    return 0.5**step


def test_errors_name_the_file(tmp_path: Path) -> None:
    """Those of a file that is whole but does not fit, found out late or early."""
    path = tmp_path / "w.h5"
    opt = make("Adam")
    opt.apply([np.ones(3)], [np.zeros(3)])
    opt.save_weights(path)
    with pytest.raises(ValueError, match=r"w\.h5: found the state of Adam, wanted SGD"):
        make("SGD").load_weights(path)
    late = ao.load(path)
    with pytest.raises(ValueError, match=r"w\.h5: .* misshapen: momentum"):
        late.init([np.zeros(4)])
    late.init([np.zeros(3)])
    assert late.iterations == 1
