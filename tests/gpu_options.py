"""Options with which the GPU engine is tried."""

from __future__ import annotations

from typing import Any

import arrayoptim as ao

OPTIONS: list[dict[str, Any]] = [
    {},
    {"clipnorm": 0.5},
    {"clipvalue": 0.1, "l2": 0.01},
    {"weight_decay": 0.1, "ema_momentum": 0.9, "clipnorm": 1e9},
    {"clipnorm": 3.0, "clipvalue": 0.5, "l2": 0.01, "weight_decay": 0.1, "exclude": ["0", "2"]},
    {"clipnorm": 0.5, "groups": [ao.group("2", lr=0.1)]},
    {"clipnorm": 0.5, "groups": [ao.group("2", freeze=True)], "nonfinite": "skip"},
    {"clipnorm": 0.5, "groups": [ao.group("2", optimizer=ao.SGD(lr=0.1))]},
    {"state_dtype": "bfloat16"},
    {"state_dtype": "bfloat16", "stochastic_rounding": True, "seed": 3},
    {"state_dtype": "int8"},
    {"state_dtype": "int8", "stochastic_rounding": True, "clipnorm": 0.5, "ema_momentum": 0.9},
    {"kahan": True, "clipnorm": 1.0},
    {"cautious": True, "clipnorm": 0.5, "weight_decay": 0.1},
    {"weight_decay": 0.1, "cautious_decay": True, "groups": [ao.group("2", cautious_decay=False)]},
    {"clipnorm": 3.0, "clipnorm_per_tensor": 0.5, "agc": 0.1},
    {"constraint": ao.constraints.Box(-0.5, 0.75), "ema_momentum": 0.9},
]
