"""The record of one optimizer's state in a file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

LOSS_SCALE = "the loss scale, and the steps left out for it; arrayoptim.LossScale has both"


@dataclass
class Record:
    """Everything that a file contains about one optimizer.

    Attributes
    ----------
    source : str
        The kind of file: ``"arrayoptim 1"``, ``"keras 2"``, ``"keras 3"`` or ``"natural_bm"``.
    class_name : str or None
        The optimizer's class; None if the file does not name it.
    config : dict or None
        The hyperparameters as stored in the file, named as in its source; None if there are
        none.
    iterations : int or None
        The number of steps taken; None if it is not in the file.
    scalars : dict of str to float
        Scalar state by name, such as ``m_schedule``.
    slots : dict of str to list
        The arrays of each slot. In a record to write, entries may be functions without arguments
        that return the array: they are called one at a time and their results released, so only one
        array is in memory. In a record from `describe`, entries are objects with ``shape``,
        ``dtype`` and ``nbytes``.
    paths : dict of str to list of str, or None
        The parameter of each array; None if they are unnamed, in parameter order.
    notes : list of str
        Notes on what the source does not save, and what was left out.
    skipped : int
        The number of steps skipped because of nonfinite gradients.
    partial : bool
        Whether the file lacks hyperparameters, like Keras 3 weights files.
    origin : str
        The file's name in messages.
    unkept : list of str
        What the training had besides the optimizer, and continues without.
    dialect : str or None
        The dialect of the hyperparameters, see `config.keras`; None if it follows from them.
    fingerprint : str or None
        The fingerprint of the parameters that it was saved with; None if there is none.
    together : Together or None
        In a record to write, the processes that hold its shards; None if one holds all.
    """

    source: str
    class_name: str | None
    config: dict[str, Any] | None
    iterations: int | None
    scalars: dict[str, float]
    slots: dict[str, list[Any]]
    paths: dict[str, list[str]] | None
    notes: list[str] = field(default_factory=list)
    skipped: int = 0
    partial: bool = False
    origin: str = "the file"
    unkept: list[str] = field(default_factory=list)
    dialect: str | None = None
    fingerprint: str | None = None
    together: Any = None

    def loaded(self) -> Record:
        """Return the same record with every array read into memory.

        Returns
        -------
        Record
            The record, independent of the file.
        """
        slots = {
            name: [x if isinstance(x, np.ndarray) else x.read() for x in arrays]
            for name, arrays in self.slots.items()
        }
        return replace(self, slots=slots)
