"""Without the packages of the fused engines the library is slower, and its answers are the same."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import sys
for name in {left_out!r}:
    sys.modules["arrayoptim.engines." + name] = None
import numpy as np
import arrayoptim as ao
params = {{"w": np.linspace(-1, 1, 64).reshape(8, 8).astype("f4"), "b": np.ones(8)}}
optimizers = [
    ao.Adam(0.1, clipnorm=1.0, ema_momentum=0.9, groups=[ao.group("b", lr=0.01)]),
    ao.LAMB(0.1, weight_decay=0.01),
    ao.Muon(0.1),
]
for optimizer in optimizers:
    for k in range(3):
        grads = {{name: np.cos(p * (k + 1)) for name, p in params.items()}}
        params = optimizer.apply(grads, params)
print(ao.explain(params, optimizers[0]).groups[0].engine)
print(b"".join(p.tobytes() for p in params.values()).hex())
"""


def course(*left_out: str) -> tuple[str, str]:
    """Return the engine and the bits of some steps in a process that lacks these engines."""
    program = PROGRAM.format(left_out=left_out)
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    engine, bits = done.stdout.split()
    return engine, bits


@pytest.mark.parametrize("left_out", [("cpu", "gpu"), ("gpu",), ("cpu", "gpu", "offload")])
def test_same_bits(left_out: tuple[str, ...]) -> None:
    """Those of the array engine, which is the specification."""
    engine, bits = course(*left_out)
    assert engine == ("array" if "cpu" in left_out else "cpu")
    assert bits == course()[1]
    assert np.isfinite(np.frombuffer(bytes.fromhex(bits)[:256], np.float32)).all()
