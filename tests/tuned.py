"""Step sizes for the problems that every optimizer must get somewhere with, by class.

The test of each problem has a step size for all optimizers. A line here replaces it, for a class
whose steps are in units of their own. The first steps of DoG and Prodigy are made long enough that
40 of them suffice.
"""

from __future__ import annotations

from typing import Literal

Problem = Literal["logistic", "valley", "network"]
"""Logistic regression without noise, optax's two valleys, a Keras model on a few batches."""

TUNED: dict[str, dict[Problem, dict[str, float]]] = {
    "ADOPT": {"valley": {"lr": 0.01}},
    "ASGD": {"valley": {"lr": 0.001}},
    "AdEMAMix": {"valley": {"lr": 0.01, "beta_3": 0.999}},
    "AdaBelief": {"valley": {"lr": 0.01}},
    "Adadelta": {"valley": {"lr": 0.1, "rho": 0.9, "epsilon": 1e-06}, "network": {"lr": 1.0}},
    "Adafactor": {"logistic": {"lr": 0.01}},
    "Adagrad": {"logistic": {"lr": 0.1}, "valley": {"lr": 1.0}},
    "AdamW": {"valley": {"lr": 0.02, "weight_decay": 0.0001}},
    "Adamax": {"valley": {"lr": 0.1}},
    "DoG": {"valley": {"lr": 0.1, "reps_rel": 1.0}, "network": {"lr": 1.0, "reps_rel": 0.001}},
    "Ftrl": {"logistic": {"lr": 0.1}, "valley": {"lr": 1.0}},
    "LAMB": {"logistic": {"lr": 0.01}, "valley": {"lr": 0.001}},
    "LARS": {
        "logistic": {"lr": 3.0},
        "valley": {"lr": 0.1},
        "network": {"lr": 0.1, "trust_coefficient": 0.1},
    },
    "Lion": {"valley": {"lr": 0.001}},
    "Nadam": {"valley": {"lr": 0.01}},
    "NadamW": {"valley": {"lr": 0.01, "weight_decay": 0.0001}},
    "Prodigy": {"network": {"lr": 1.0, "d0": 0.001}},
    "RAdam": {"valley": {"lr": 0.005}},
    "RMSprop": {"valley": {"lr": 0.005}},
    "Rprop": {"valley": {"lr": 0.01}},
    "SGD": {"valley": {"lr": 0.001, "momentum": 0.9}},
    "SM3": {"valley": {"lr": 1.0}},
    "ScheduleFreeAdamW": {"valley": {"lr": 0.01}},
    "ScheduleFreeSGD": {"logistic": {"lr": 0.1}, "valley": {"lr": 0.01}},
    "Shampoo": {"valley": {"lr": 0.5}},
    "Signum": {"valley": {"lr": 0.001}},
    "Sophia": {"valley": {"lr": 0.002}},
    "StableAdamW": {"valley": {"lr": 0.005}},
    "Yogi": {"valley": {"lr": 0.1}},
}


def tuned(name: str, problem: Problem, **usual: float) -> dict[str, float]:
    """Return the hyperparameters with which an optimizer is tried on a problem."""
    return TUNED.get(name, {}).get(problem, usual)
