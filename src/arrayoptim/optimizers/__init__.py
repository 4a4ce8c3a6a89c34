"""The optimizers, each in its own file; a line here makes its class public.

A file is imported on first access to its class, as most programs use only one or two.
"""

from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from ..config.registry import OPTIMIZERS

if TYPE_CHECKING:
    from .adabelief import AdaBelief as AdaBelief
    from .adadelta import Adadelta as Adadelta
    from .adafactor import Adafactor as Adafactor
    from .adagrad import Adagrad as Adagrad
    from .adam import Adam as Adam
    from .adamax import Adamax as Adamax
    from .adammini import AdamMini as AdamMini
    from .adamuon import AdaMuon as AdaMuon
    from .adamw import AdamW as AdamW
    from .adan import Adan as Adan
    from .ademamix import AdEMAMix as AdEMAMix
    from .adopt import ADOPT as ADOPT
    from .apollo import APOLLO as APOLLO
    from .asgd import ASGD as ASGD
    from .came import CAME as CAME
    from .dog import DoG as DoG
    from .ftrl import Ftrl as Ftrl
    from .galore import GaLore as GaLore
    from .kron import Kron as Kron
    from .lamb import LAMB as LAMB
    from .lars import LARS as LARS
    from .lion import Lion as Lion
    from .mars import MARS as MARS
    from .muon import Muon as Muon
    from .nadam import Nadam as Nadam
    from .nadamw import NadamW as NadamW
    from .normuon import NorMuon as NorMuon
    from .prodigy import Prodigy as Prodigy
    from .radam import RAdam as RAdam
    from .rmsprop import RMSprop as RMSprop
    from .rprop import Rprop as Rprop
    from .schedulefreeadamw import ScheduleFreeAdamW as ScheduleFreeAdamW
    from .schedulefreesgd import ScheduleFreeSGD as ScheduleFreeSGD
    from .sgd import SGD as SGD
    from .shampoo import Shampoo as Shampoo
    from .signum import Signum as Signum
    from .sm3 import SM3 as SM3
    from .soap import SOAP as SOAP
    from .sophia import Sophia as Sophia
    from .stableadamw import StableAdamW as StableAdamW
    from .yogi import Yogi as Yogi

_FILES = {module.name for module in iter_modules(__path__) if not module.name.startswith("_")}
OPTIMIZERS.expect({name: f"{__name__}.{name}" for name in _FILES})


def _names() -> list[str]:
    """Return the names of the classes; imports all files."""
    return sorted(OPTIMIZERS.lookup(file).__name__ for file in _FILES)


def __getattr__(name: str) -> Any:
    """Import the file of a class on first access."""
    if name == "__all__":
        return _names()
    if name.lower() in _FILES:
        cls = OPTIMIZERS.lookup(name)
        if cls.__name__ == name:
            globals()[name] = cls
            return cls
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names of the classes."""
    return _names()
