"""What the helpers of a torch optimizer know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from .spelling import Spelling

__all__ = ["Grouped"]


class Grouped(Protocol):
    """An optimizer with parameter groups, whose keys have a spelling.

    Attributes
    ----------
    spelling : Spelling
        The keys of its groups.
    param_groups : list of dict
        The groups.
    defaults : dict
        What a group has where nothing else is said.
    state : dict
        The state of each parameter.
    """

    spelling: ClassVar[Spelling]
    param_groups: list[dict[str, Any]]
    defaults: dict[str, Any]
    state: Any
    _backward: Any
