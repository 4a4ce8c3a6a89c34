"""Programs that come here from other libraries: before and after, they print the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from backends import BACKENDS
from places import ROOT

PROGRAMS = ROOT / "docs" / "coming_from" / "programs"
NEEDS = {
    "chainer": {"chainer"},
    "keras2": {"keras", "tf_keras", "torch"},
    "keras3": {"keras", "torch"},
    "optax": {"jax", "optax"},
    "thinc": {"thinc"},
    "torch": {"torch"},
}
FIRST = {
    "keras2": """
import sys
import tf_keras
sys.modules["keras"] = tf_keras
for name in ("backend", "callbacks", "layers", "models"):
    sys.modules["keras." + name] = getattr(tf_keras, name)
sys.modules["keras.optimizers"] = tf_keras.optimizers.legacy
""",
    # Chainer 7.8 is older than NumPy 2, and asks for names that this no longer has.
    "chainer": """
import numpy as np
for kind in (int, float, complex, object):
    setattr(np, kind.__name__, kind)
np.sctypes = {kind: [] for kind in ("int", "uint", "complex", "others")}
np.sctypes["int"] += [np.int8, np.int16, np.int32, np.int64]
np.sctypes["uint"] += [np.uint8, np.uint16, np.uint32, np.uint64]
np.sctypes["float"] = [np.float16, np.float32, np.float64]
""",
}


def printed(name: str, when: str, folder: Path) -> str:
    """Return what a program prints in a process of its own."""
    path = PROGRAMS / f"{name}_{when}.py"
    first = FIRST.get(name, "") if name == "chainer" or when == "before" else ""
    code = f"{first}\nimport runpy\nrunpy.run_path({str(path)!r}, run_name='__main__')"
    places = [str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"KERAS_BACKEND": "torch", "PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder, env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


def test_each_program_is_shown() -> None:
    names = {path.stem.rpartition("_")[0] for path in PROGRAMS.glob("*.py")}
    assert names == set(NEEDS)
    shown = "".join(path.read_text(encoding="utf-8") for path in PROGRAMS.parent.glob("*.rst"))
    assert set(re.findall(r"generated/program_(\w+).inc", shown)) == names


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS)
def test_it_comes_to_the_same(name: str, tmp_path: Path) -> None:
    left_out = NEEDS[name] & {"torch", "jax"} - {backend.name for backend in BACKENDS}
    if left_out or not all(map(find_spec, NEEDS[name])):
        pytest.skip(f"needs {', '.join(sorted(NEEDS[name]))}")
    before, after = (printed(name, when, tmp_path) for when in ("before", "after"))
    assert re.fullmatch(r"loss 0\.\d+", before)
    assert after == before
