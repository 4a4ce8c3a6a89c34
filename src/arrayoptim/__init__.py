"""Gradient-descent optimizers for the arrays of every library.

An update rule is written once, as a small pure function over array API operations, and runs on
NumPy, CuPy, PyTorch and JAX arrays with the names, numerics and files of Keras 2.

Examples
--------
>>> import numpy as np
>>> import arrayoptim as ao
>>> params = {"kernel": np.ones((2, 2)), "bias": np.zeros(2)}
>>> grads = {"kernel": np.full((2, 2), 0.5), "bias": np.array([1.0, -1.0])}
>>> optimizer = ao.Adam(lr=0.1, clipnorm=1.0)
>>> params = optimizer.apply(grads, params)
>>> params["bias"].round(3)
array([-0.1,  0.1])
"""

from __future__ import annotations

from importlib import import_module as _import_module
from types import ModuleType as _ModuleType

from . import adapters as _adapters
from . import schedules
from ._groups import group
from ._hyper import bias_correction, hyper
from ._registry import names, register
from ._rule import Rule, rule
from ._version import __version__
from .engines import engine
from .explaining import explain
from .gradients import clip_norm
from .loading import load
from .optimizer import Optimizer
from .optimizers import (
    ADOPT,
    ASGD,
    LAMB,
    LARS,
    SGD,
    SM3,
    AdaBelief,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Adan,
    AdEMAMix,
    Ftrl,
    Lion,
    Muon,
    Nadam,
    NadamW,
    RAdam,
    RMSprop,
    Rprop,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    Signum,
    Yogi,
    deserialize,
    get,
    serialize,
)
from .wrappers import SAM, GradientAccumulation, Lookahead, LossScale

__all__ = [
    "ADOPT",
    "ASGD",
    "LAMB",
    "LARS",
    "SAM",
    "SGD",
    "SM3",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "Ftrl",
    "GradientAccumulation",
    "Lion",
    "Lookahead",
    "LossScale",
    "Muon",
    "Nadam",
    "NadamW",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "Rule",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Signum",
    "Yogi",
    "__version__",
    "bias_correction",
    "clip_norm",
    "deserialize",
    "engine",
    "explain",
    "get",
    "group",
    "hyper",
    "load",
    "names",
    "register",
    "rule",
    "schedules",
    "serialize",
]


def __getattr__(name: str) -> _ModuleType:
    """Import an adapter when it is first asked for."""
    if name in _adapters.MODULES:
        return _import_module(f".adapters.{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
