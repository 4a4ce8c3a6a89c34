"""One or more of every registered schedule; `test_schedules.py` says which is missing."""

from __future__ import annotations

from typing import Any

import arrayoptim as ao

s = ao.schedules
WARM = s.LinearWarmup(0.2, 5)
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "ExponentialDecay": [
        {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5},
        {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5, "staircase": True},
    ],
    "InverseTimeDecay": [
        {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5, "name": "mine"},
        {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5, "staircase": True},
    ],
    "PiecewiseConstantDecay": [{"boundaries": [2, 5], "values": [0.1, 0.2, 0.05]}],
    "PolynomialDecay": [
        {"initial_learning_rate": 0.1, "decay_steps": 7, "power": 0.5},
        {"initial_learning_rate": 0.1, "decay_steps": 3, "power": 2.0, "cycle": True},
    ],
    "CosineDecay": [
        {"initial_learning_rate": 0.1, "decay_steps": 7, "alpha": 0.1},
        {"initial_learning_rate": 0.01, "decay_steps": 4, "warmup_target": 0.1, "warmup_steps": 3},
    ],
    "CosineDecayRestarts": [
        {"initial_learning_rate": 0.1, "first_decay_steps": 2},
        {"initial_learning_rate": 0.1, "first_decay_steps": 2, "t_mul": 1, "m_mul": 0.5},
    ],
    "LinearWarmup": [{"warmup_target": 0.1, "warmup_steps": 4, "initial_learning_rate": 0.3}],
    "OneCycle": [
        {"max_learning_rate": 0.1, "total_steps": 9},
        {"max_learning_rate": 0.1, "total_steps": 3, "anneal_strategy": "linear"},
    ],
    "WarmupStableDecay": [
        {"max_learning_rate": 0.1, "warmup_steps": 2, "stable_steps": 2, "decay_steps": 3,
         "decay": decay}
        for decay in ("linear", "cosine", "sqrt")
    ] + [{"max_learning_rate": 0.1, "warmup_steps": 0, "stable_steps": 2, "decay_steps": 0}],
    "MomentumRamp": [{"momentum": 0.9, "schedule_decay": 2.0, "mom_iter_max": 6}],
    "Joined": [{"schedules": [WARM, 0.1, s.CosineDecay(0.3, 4)], "boundaries": [2, 4]}],
    "Scaled": [{"schedule": WARM, "factor": 0.5}, {"schedule": s.Scaled(0.1, 3.0), "factor": 0.5}],
    "Plateau": [{"schedule": 0.1, "patience": 1}, {"schedule": WARM, "factor": 0.5, "patience": 0}],
}  # fmt: skip
NAMES = s.names()
CASES = [(name, kwargs) for name in NAMES for kwargs in EXAMPLES.get(name, [])]
IDS = [f"{name}-{k}" for k, (name, _) in enumerate(CASES)]


def make(name: str, kwargs: dict[str, Any]) -> Any:
    """Return a schedule."""
    return getattr(s, name)(**kwargs)
