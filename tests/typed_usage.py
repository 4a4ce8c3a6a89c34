"""What type checkers must know of the public names; read by `nox -s types`, never run.

An ignored error must be one: mypy reports ignores that nothing needs.
"""

from typing import Any

import numpy as np
from typing_extensions import assert_type

import arrayoptim as ao

adam = ao.Adam(0.1, 0.9, 0.999, 1e-8, clipnorm=1.0)
assert_type(adam, ao.Adam)
assert_type(adam.lr, float)
assert_type(adam.clipnorm, float | None)
assert_type(adam.amsgrad, bool)
adam.lr = ao.schedules.CosineDecay(0.1, 100)
adam.learning_rate = np.float32(0.1)

ao.Adam(lr=lambda step: 0.1 / (step + 1), exclude="*/bias")
ao.Adam(learning_rate=0.1, weight_decay=None)
ao.SGD(0.01, 0.9, 1e-6, True)
ao.NadamW(weight_decay=0.1)
ao.GradientAccumulation(ao.Adam(), every=4)

ao.Adam(lr="fast")  # type: ignore[arg-type]
ao.Adam(bata_1=0.9)  # type: ignore[call-arg]
ao.Adam(0.1, 0.9, 0.999, 1e-8, 0.0, 1.0)  # type: ignore[call-arg]


def adapters(parameters: list[Any]) -> None:
    """Call what is made when it is asked for."""
    assert_type(ao.torch.Adam(parameters, lr=0.1, betas=(0.9, 0.99), clipnorm=1.0), ao.torch.Adam)
    ao.torch.SGD(parameters, 0.1, foreach=False)
    ao.keras.Adam(0.1, 0.9, use_ema=True)
    ao.optax.Adam(learning_rate=0.1, eps_root=1.0)  # type: ignore[call-arg]
    assert_type(ao.scipy.Adam(lr=0.1), ao.scipy.Method)
    ao.torch.Adam(parameters, lr="fast")  # type: ignore[arg-type]
