"""Gradient-descent optimizers for the arrays of every library.

An update rule is written once, as a small pure function of array API operations, and runs on
NumPy, CuPy, PyTorch and JAX arrays, with the names, numerics and files of Keras 2.

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

import typing as _t
from importlib import import_module as _import_module
from types import ModuleType as _ModuleType

from . import adapters as _adapters
from . import constraints as constraints
from . import optimizers as _optimizers
from . import schedules as schedules
from ._locks import IMPORTING as _IMPORTING
from ._version import __version__ as __version__
from .arrays.libraries import Backend as Backend
from .arrays.libraries import register_backend as register_backend
from .arrays.rows import Rows as Rows
from .config import registry as _registry
from .config.groups import group as group
from .config.hyper import bias_correction as bias_correction
from .config.hyper import hyper as hyper
from .config.other_libraries import named as _named
from .config.registry import names as names
from .config.registry import register as register
from .engines import engine as engine
from .gradients import clip_norm as clip_norm
from .norms import global_norm as global_norm
from .optimizer import Optimizer as Optimizer
from .rules.rule import Rule as Rule
from .rules.rule import rule as rule

if _t.TYPE_CHECKING:
    from . import callbacks as callbacks
    from . import keras as keras
    from . import mpi as mpi
    from . import optax as optax
    from . import scipy as scipy
    from . import testing as testing
    from . import torch as torch
    from .explaining import explain as explain
    from .finding import deserialize as deserialize
    from .finding import get as get
    from .finding import serialize as serialize
    from .foreign import OptaxOptimizer as OptaxOptimizer
    from .foreign import TFOptimizer as TFOptimizer
    from .foreign import TorchOptimizer as TorchOptimizer
    from .loading import load as load
    from .matrix_groups import muon_groups as muon_groups
    from .optimizers import *  # noqa: F403 (each has its line there)
    from .search import LBFGS as LBFGS
    from .training.checkpoints import Checkpoint as Checkpoint
    from .training.checkpoints import load_checkpoint as load_checkpoint
    from .training.checkpoints import save_checkpoint as save_checkpoint
    from .training.minimize import minimize as minimize
    from .training.rate_search import RateSearch as RateSearch
    from .training.rate_search import find_lr as find_lr
    from .training.result import Minimization as Minimization
    from .wrappers import SAM as SAM
    from .wrappers import GradientAccumulation as GradientAccumulation
    from .wrappers import Grokfast as Grokfast
    from .wrappers import Lookahead as Lookahead
    from .wrappers import LossScale as LossScale
    from .wrappers import ScheduleFree as ScheduleFree

_WRAPPERS = ("SAM", "GradientAccumulation", "Grokfast", "Lookahead", "LossScale", "ScheduleFree")
_registry.WRAPPERS.expect({name.lower(): f"{__name__}.wrappers" for name in _WRAPPERS})
# Imported on first access, as short programs do not need them.
_LATER = {
    "callbacks": "",
    "testing": "",
    "Checkpoint": "training.checkpoints",
    "load_checkpoint": "training.checkpoints",
    "save_checkpoint": "training.checkpoints",
    "explain": "explaining",
    "load": "loading",
    "muon_groups": "matrix_groups",
    "Minimization": "training.result",
    "minimize": "training.minimize",
    "RateSearch": "training.rate_search",
    "find_lr": "training.rate_search",
    "LBFGS": "search",
    **dict.fromkeys(("deserialize", "get", "serialize"), "finding"),
    **dict.fromkeys(("OptaxOptimizer", "TFOptimizer", "TorchOptimizer"), "foreign"),
    **dict.fromkeys(_WRAPPERS, "wrappers"),
}
_HERE = [
    name
    for name, value in list(globals().items())
    if not (name.startswith("_") or isinstance(value, _ModuleType))
]


def _public() -> list[str]:
    """Return the public names, without the adapters."""
    later = [name for name in _LATER if name != "testing"]
    return ["__version__", "constraints", "schedules", *_HERE, *later, *_optimizers.__all__]


def __getattr__(name: str) -> _t.Any:
    """Import optional modules on first access."""
    if name == "__all__":
        return _public()
    if name in _adapters.MODULES:
        return _import_module(f".{name}", __name__)
    if name in _LATER:
        with _IMPORTING:
            module = _import_module(f".{_LATER[name] or name}", __name__)
        found = getattr(module, name) if _LATER[name] else module
    else:
        found = getattr(_optimizers, name, None)
        if not isinstance(found, type):
            told = "" if name.startswith("_") else _named(name, _public())
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{told}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names, including those of the adapters whose frameworks are installed."""
    special = [name for name in globals() if name.startswith("__") and name.endswith("__")]
    return sorted({*_public(), *special, *_adapters.installed(), "testing"})
