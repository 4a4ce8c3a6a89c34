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
    """Methods of `arrayoptim.Optimizer` that need only `apply`, a record and a lock."""

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
        """Return a copy with its own state; with shared state, both copies would count steps."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy with its own state, taken between two steps."""
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        with self._lock:
            # In Python 3.10 not every object has __getstate__.
            state: Any = getattr(self, "__getstate__", partial(dict, vars(self)))()
            kept = copy.deepcopy(state, memo)
        take_up = getattr(new, "__setstate__", vars(new).update)
        take_up(kept)
        return new

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Array | None, Array]]) -> list[Array]:
        """Take one step, given (gradient, parameter) pairs as in Keras.

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
        """Take one step, given the value and gradients of the loss."""
        self._hear(value)
        return self.apply(gradients, params)

    def tell_loss(self, loss: Any) -> None:
        """Pass the loss that was differentiated for the next step; see `Optimizer.tell_loss`."""
        raise ValueError(f"{type(self).__name__}.tell_loss: {self!r} has no guard on the loss")

    def _hear(self, value: Scalar) -> None:
        """Receive the loss of a step, for optimizers that use its value."""

    _searches = False
    """Whether a loss that is not finite merely shortens the step."""

    def _over(self) -> tuple[str, str]:
        """Return why the loop should stop, as a word and as a sentence; empty if it should not."""
        return "", ""

    def _best(self, params: Tree) -> Tree:
        """Move the parameters to the point at which a minimization loop should end."""
        return params

    def save_weights(self, filepath: persistence.Place, overwrite: bool = True) -> None:
        """Save the state, with class and hyperparameters, to an HDF5 file.

        The write is atomic: a crash leaves an existing file of that name unchanged.

        Parameters
        ----------
        filepath : str, bytes, Path, binary file or h5py.Group
            The file. Into an open file, the state is written at its current position; into an h5py
            group, as by `save_weights_to_hdf5_group`.
        overwrite : bool
            Whether to replace an existing file.

        Raises
        ------
        FileExistsError
            If the file exists and `overwrite` is False.
        TypeError
            If `filepath` is none of these.
        ValueError
            If there is no state yet, before `init`.
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
        """Restore the state of an optimizer of this class from a file.

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
            Whether to refuse, now or when parameters are first seen, parameters that differ from
            those that a checkpoint's state was saved with.

        Returns
        -------
        LoadReport
            What was restored, what was not, and what such a file does not hold.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file holds no complete state of an optimizer of this class that fits the
            parameters. Nothing has changed then.

        Notes
        -----
        Before `init`, the file is read into memory and compared with the parameters when they are
        first seen. After it, only arrays that fit are read.
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
