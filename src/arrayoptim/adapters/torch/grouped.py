"""The interface of torch optimizers that their helpers use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from .spelling import Spelling

__all__ = ["Grouped"]


class Grouped(Protocol):
    """An optimizer with parameter groups.

    Attributes
    ----------
    spelling : Spelling
        How hyperparameters are named in its groups.
    param_groups : list of dict
        The groups.
    defaults : dict
        Default settings of a group.
    state : dict
        The state of each parameter.
    """

    spelling: ClassVar[Spelling]
    param_groups: list[dict[str, Any]]
    defaults: dict[str, Any]
    state: Any
    _backward: Any
