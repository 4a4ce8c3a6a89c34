"""The methods that optimizers and wrappers share."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .._typing import Array, Scalar, Tree
from ..arrays.derivatives import value_and_gradients
from ..config.spoken import part_of
from .restore import LoadReport

if TYPE_CHECKING:
    import h5py
    from typing_extensions import Self

    from .. import persistence


@part_of("arrayoptim.optimizer", "Optimizer")
class Surface:
    """The part of `arrayoptim.Optimizer` that follows from a step, a record and a lock."""

    if TYPE_CHECKING:

        @property
        def _lock(self) -> Any: ...

        def apply(self, grads: Tree, params: Tree) -> Tree:
            """Take one step."""

        def _record(self) -> persistence.Record: ...

        def _load(
            self, record: persistence.Record, strict: bool, hyperparameters: bool
        ) -> LoadReport: ...

    def __copy__(self) -> Self:
        """Return an optimizer with state of its own: two that shared one would both count."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return an optimizer with state of its own, as it is between two steps."""
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        with self._lock:
            # In Python 3.10 not every object has this method.
            state: Any = getattr(self, "__getstate__", partial(dict, vars(self)))()
            kept = copy.deepcopy(state, memo)
        take_up = getattr(new, "__setstate__", vars(new).update)
        take_up(kept)
        return new

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Array | None, Array]]) -> list[Array]:
        """Take one step, given Keras's pairs.

        Parameters
        ----------
        grads_and_vars : iterable of (gradient, parameter)
            In the same order at every step.

        Returns
        -------
        list of array
            The parameters after the step, in order.

        Raises
        ------
        TypeError
            If they are no pairs; otherwise as `apply`.
        """
        given: Any = grads_and_vars
        pairs = list(given) if isinstance(given, Iterable) else [given]
        for pair in pairs:
            if not (isinstance(pair, Sequence) and len(pair) == 2):
                raise TypeError(
                    f"apply_gradients: found {type(pair).__qualname__}"
                    f"{f' of {len(pair)}' if isinstance(pair, Sequence) else ''}, wanted pairs "
                    "(gradient, parameter), as from zip(gradients, parameters)"
                )
        updated: list[Array] = self.apply([g for g, _ in pairs], [p for _, p in pairs])
        return updated

    def minimize(self, loss: Any, params: Tree) -> Tree:
        """Take one step down a loss.

        Parameters
        ----------
        loss : torch.Tensor or callable
            See `get_gradients`.
        params : tree of arrays
            The parameters.

        Returns
        -------
        tree of arrays
            As from `apply`.
        """
        value, gradients, _, structure = value_and_gradients(loss, params)
        return self._descend(loss, value, structure.build(gradients), params)

    def _descend(self, loss: Any, value: Scalar, gradients: Tree, params: Tree) -> Tree:
        """Take one step down a loss, given its value and gradients at the parameters."""
        self._hear(value)
        return self.apply(gradients, params)

    def tell_loss(self, loss: Any) -> None:
        """Tell the loss that the gradients of the next step are of; see `Optimizer.tell_loss`."""
        raise ValueError(f"{type(self).__name__}.tell_loss: {self!r} has no guard on the loss")

    def _hear(self, value: Scalar) -> None:
        """Take the loss of a step where the optimizer does more with it than descend."""

    _searches = False
    """Whether a loss that is not finite only shortens a step."""

    def _over(self) -> tuple[str, str]:
        """Return why no further step is wanted, as one word and as a sentence; empty if one is."""
        return "", ""

    def _best(self, params: Tree) -> Tree:
        """Move the parameters to the point that a loop is to end at."""
        return params

    def save_weights(self, filepath: persistence.Place, overwrite: bool = True) -> None:
        """Save the state, with class and hyperparameters, to an HDF5 file.

        The file appears whole or not at all: a crash leaves an earlier file of that name as it was.

        Parameters
        ----------
        filepath : str, bytes, Path, binary file or h5py.Group
            The file. Into an open one the state goes from where that stands; into a group of h5py
            as by `save_weights_to_hdf5_group`.
        overwrite : bool
            Whether to replace an existing file.

        Raises
        ------
        FileExistsError
            If the file exists and `overwrite` is False.
        TypeError
            If `filepath` stands for no file.
        ValueError
            Before `init`: there is no state yet.
        """
        from .. import persistence

        with self._lock:
            persistence.write(filepath, self._record(), overwrite=overwrite)

    def save_weights_to_hdf5_group(self, f: h5py.Group) -> None:
        """Save the state into the group ``optimizer_weights`` of an open HDF5 file.

        Parameters
        ----------
        f : h5py.Group
            A file or group; or the group ``optimizer_weights`` itself.
        """
        from .. import persistence

        with self._lock:
            persistence.write_group(f, self._record())

    def load_weights(
        self,
        filepath: persistence.Place,
        strict: bool = True,
        hyperparameters: bool = True,
        *,
        fingerprint: bool = True,
    ) -> LoadReport:
        """Restore what a file holds of an optimizer of this class.

        Parameters
        ----------
        filepath : str, bytes, Path, binary file or h5py.Group
            A file of this library, of Keras 2 or Keras 3 (``.h5``, ``.keras``, ``.weights.h5``),
            or of natural_bm.
        strict : bool
            Whether every difference between the file and the parameters is an error.
        hyperparameters : bool
            Whether to take over the hyperparameters that the file records.
        fingerprint : bool
            Whether parameters other than those that a checkpoint's state was saved beside are
            refused, here or when they are first seen.

        Returns
        -------
        LoadReport
            What was restored, what not, and what such a file does not hold.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it holds no whole state of an optimizer of this class that fits the parameters.
            Nothing has changed then.

        Notes
        -----
        Before `init` the file is read and kept, and compared with the parameters when they are
        first seen. After it only the arrays are read that fit.
        """
        from .. import persistence

        with persistence.opened(filepath) as record:
            if not fingerprint:
                record.fingerprint = None
            return self._load(record, strict, hyperparameters)

    def load_weights_from_hdf5_group(
        self, f: h5py.Group, strict: bool = True, hyperparameters: bool = True
    ) -> LoadReport:
        """Restore from an open HDF5 file or group; see `load_weights`."""
        from .. import persistence

        with persistence.opened(f) as record:
            return self._load(record, strict, hyperparameters)
