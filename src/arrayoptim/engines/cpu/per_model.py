"""Checks of whole arrays of many models, instead of each model's piece."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ...arrays.backend import ITEMSIZE, reals
from ...arrays.memory import Stretches
from ...arrays.per_model import Pieces
from .array_checks import Look
from .batches import Batch
from .columns import Column


class Wholes:
    """The whole arrays whose pieces a batch contains.

    Parameters
    ----------
    params : Pieces
        The parameters, in the order of the batch.
    batch : Batch
        The batch, of all of them.
    """

    def __init__(self, params: Pieces, batch: Batch) -> None:
        wholes, self._batch = params.wholes, batch
        reader = type(batch.reader)(wholes)
        parts = 1 if reals(batch.dtype) == batch.dtype else 2
        sizes = np.asarray([parts * prod(shape) for shape in reader.shapes], np.int64)
        pointers, found = np.zeros((2, len(wholes), 1), np.int64)
        Column(reader, batch.dtype, pointers, 0, True, found).read(wholes)
        self._reader = reader
        self._look = Look(reader, batch.dtype, range(len(wholes)), tuple, sizes, pointers)
        steps = sizes // params.models * ITEMSIZE[reals(batch.dtype)]
        self._offsets = steps[:, None] * np.arange(params.models)
        self._targets = batch.arrays.gradients.reshape(self._offsets.shape)

    def look(self, params: Pieces, grads: Pieces, occupied: Stretches, count: int | None) -> bool:
        """Record the addresses of all models' gradients, if machine code finds all as expected.

        Parameters
        ----------
        params, grads : Pieces
            Parameters and gradients.
        occupied : Stretches
            The memory that the step writes.
        count : int or None
            Number of threads; the default if None.
        """
        arrays = self._batch.arrays
        if arrays.kind != self._batch.dtype:
            return False
        pool = self._batch.rouses(count)
        if not self._look.quick(params.wholes, grads.wholes, occupied, pool):
            return False
        starts = self._look.gradients
        np.add(starts, self._offsets, out=self._targets)
        if not starts.all():
            # The address of None is 0.
            self._targets[starts[:, 0] == 0] = 0
        arrays.copies = ()
        return True


def wholes_of(params: Sequence[Any], batches: Sequence[Batch]) -> Wholes | None:
    """Return the check of whole arrays; None if pieces must be checked."""
    if type(params) is not Pieces or len(batches) != 1:
        return None
    reader = type(batches[0].reader)
    for x in params.wholes:
        if x is None or not reader.rowwise(x) or reader.refusal(x, True) is not None:
            return None
    return Wholes(params, batches[0])
