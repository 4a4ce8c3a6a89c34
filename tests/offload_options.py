"""Options with which offload is tried."""

from __future__ import annotations

from typing import Any

import arrayoptim as ao

OPTIONS: list[dict[str, Any]] = [
    {},
    {"clipnorm": 0.5, "weight_decay": 0.1, "ema_momentum": 0.9},
    {"clipvalue": 0.1, "l2": 0.01, "exclude": ["0", "2"], "nonfinite": "skip"},
    {"groups": [ao.group("2", lr=0.1), ao.group("4", optimizer=ao.SGD(lr=0.1, momentum=0.9))]},
    {"state_dtype": "bfloat16", "stochastic_rounding": True},
    {"state_dtype": "int8"},
    {"kahan": True, "threads": 2},
]
