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

from importlib import import_module as _import_module
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING

from . import adapters as _adapters
from . import constraints, schedules
from ._version import __version__
from .arrays.libraries import Backend, register_backend
from .arrays.rows import Rows
from .checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from .config.elsewhere import named as _named
from .config.groups import group
from .config.hyper import bias_correction, hyper
from .config.registry import names, register
from .engines import engine
from .explaining import explain
from .foreign import OptaxOptimizer, TFOptimizer, TorchOptimizer
from .gradients import clip_norm
from .loading import load
from .minimization import Minimization
from .minimizing import minimize
from .norms import global_norm
from .optimizer import Optimizer
from .optimizers import (
    ADOPT,
    ASGD,
    LAMB,
    LARS,
    SGD,
    SM3,
    SOAP,
    AdaBelief,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Adan,
    AdEMAMix,
    DoG,
    Ftrl,
    Lion,
    Muon,
    Nadam,
    NadamW,
    Prodigy,
    RAdam,
    RMSprop,
    Rprop,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    Shampoo,
    Signum,
    StableAdamW,
    Yogi,
    deserialize,
    get,
    serialize,
)
from .rules.rule import Rule, rule
from .wrappers import SAM, GradientAccumulation, Lookahead, LossScale

if TYPE_CHECKING:
    from . import keras as keras
    from . import optax as optax
    from . import scipy as scipy
    from . import testing as testing
    from . import torch as torch

__all__ = [
    "ADOPT",
    "ASGD",
    "LAMB",
    "LARS",
    "SAM",
    "SGD",
    "SM3",
    "SOAP",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "Checkpoint",
    "Backend",
    "DoG",
    "Ftrl",
    "GradientAccumulation",
    "Lion",
    "Lookahead",
    "LossScale",
    "Minimization",
    "Muon",
    "Nadam",
    "NadamW",
    "OptaxOptimizer",
    "Optimizer",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "Rows",
    "Rprop",
    "Rule",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Shampoo",
    "Signum",
    "StableAdamW",
    "TFOptimizer",
    "TorchOptimizer",
    "Yogi",
    "__version__",
    "bias_correction",
    "clip_norm",
    "constraints",
    "deserialize",
    "engine",
    "explain",
    "get",
    "global_norm",
    "group",
    "hyper",
    "load",
    "load_checkpoint",
    "minimize",
    "names",
    "register",
    "register_backend",
    "rule",
    "save_checkpoint",
    "schedules",
    "serialize",
]


def __getattr__(name: str) -> _ModuleType:
    """Import an adapter, or the checks, when it is first asked for."""
    if name in _adapters.MODULES or name == "testing":
        return _import_module(f".{name}", __name__)
    told = "" if name.startswith("_") else _named(name, __all__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{told}")


def __dir__() -> list[str]:
    """Return what is public, the adapters that can be used here included."""
    special = [name for name in globals() if name.startswith("__") and name.endswith("__")]
    return sorted({*__all__, *special, *_adapters.installed(), "testing"})
