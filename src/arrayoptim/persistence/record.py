"""The record of one optimizer's state in a file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

LOSS_SCALE = "the loss scale, and the steps left out for it; arrayoptim.LossScale has both"


@dataclass
class Record:
    """Everything a file holds of one optimizer.

    Attributes
    ----------
    source : str
        The kind of file: ``"arrayoptim 1"``, ``"keras 2"``, ``"keras 3"`` or ``"natural_bm"``.
    class_name : str or None
        The optimizer's class; None where the file leaves it open.
    config : dict or None
        The hyperparameters as stored in the file, in the words of its source; None where it
        holds none.
    iterations : int or None
        The number of steps taken; None where the file does not hold it.
    scalars : dict of str to float
        Scalar state by name, such as ``m_schedule``.
    slots : dict of str to list
        The arrays of each slot. In a record to be written, functions without arguments that
        return the array may stand for arrays: each is called when its turn comes and its result
        let go, so that one array at a time is in memory. In a record from `describe`, objects
        with ``shape``, ``dtype`` and ``nbytes`` stand for them.
    paths : dict of str to list of str, or None
        The parameter of each array; None where the file has them in parameter order, unnamed.
    notes : list of str
        What the source does not save, and what was left out.
    skipped : int
        The number of steps left out for non-finite gradients.
    partial : bool
        Whether the file leaves out hyperparameters, as weights files of Keras 3 do.
    origin : str
        What messages call the file.
    unkept : list of str
        What the training had besides the optimizer and goes on without.
    dialect : str or None
        In whose words the hyperparameters are, see `config.keras`; None where they tell themselves.
    fingerprint : str or None
        That of the parameters beside which it was saved; None where the file has none.
    together : Together or None
        In a record to be written, the processes that hold it in parts; None where one holds all.
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
