"""Data-parallel steps with optimizer state sharded over processes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._typing import Scalar, Tree
from ...arrays.trees import flatten
from ...config.registry import made, require_one_model
from ...optimizer import Optimizer
from ...step.metrics import number_told
from ...step.session import Session
from ...step.shared_methods import Surface
from ...wrappers import Wrapper
from .agreement import together
from .asking import WHY_ONE, Asked, Asking, sessions_of
from .communication import links_of
from .flat import Flat
from .pieces import pieces_of
from .records import cut_up, joined
from .sharding import PieceSpread

if TYPE_CHECKING:
    from mpi4py import MPI

    from ...persistence import Record
    from ...step.restore import LoadReport

__all__ = ["DataParallel"]


class DataParallel(Surface):
    """Step NumPy or CuPy arrays of which every process has a copy, each process a share of them.

    A step averages the gradients of all processes and sends each process its share. The process
    steps that share and holds its state, 1 / N of the total; then the parameters are gathered.
    Norms and totals are those of all gradients, so the result is that of a single process with
    the averaged gradients.

    Parameters
    ----------
    optimizer : Optimizer, Wrapper, str or dict
        The optimizer, its name, or its configuration; the same on all processes.
    comm : mpi4py.MPI.Comm, optional
        The processes; all of them by default.
    mean : bool
        Whether to average gradients over the processes, instead of summing them.
    nccl : cupyx.distributed.NCCLBackend, optional
        Communicator for CuPy arrays. By default MPI is used, which must be CUDA-aware.

    Raises
    ------
    TypeError
        If `optimizer` or `comm` has the wrong type.

    Notes
    -----
    Every process calls the same methods in the same order, with its own gradients and equal
    parameters. Hyperparameters are set on `optimizer`, equally on all processes.

    A parameter is split at arbitrary points if its rule allows that. Matrices whose rules need
    them whole, such as Muon's, are stepped by one process each, as are arrays that are not
    contiguous.

    Examples
    --------
    In a program that ``mpiexec -n 4 python -m mpi4py train.py`` starts:

    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> params = {"w": np.ones(4)}
    >>> optimizer = ao.mpi.DataParallel(ao.SGD(lr=0.5))
    >>> optimizer.apply({"w": np.array([1.0, 0.0, -1.0, 0.0])}, params)["w"]
    array([0.5, 1. , 1.5, 1. ])
    """

    def __init__(
        self,
        optimizer: Any,
        comm: MPI.Comm | None = None,
        *,
        mean: bool = True,
        nccl: Any = None,
    ) -> None:
        optimizer = made(optimizer)
        if not isinstance(optimizer, Optimizer | Wrapper):
            raise TypeError(f"found {optimizer!r}, wanted an optimizer such as arrayoptim.Adam()")
        require_one_model(optimizer, "DataParallel", WHY_ONE)
        self.optimizer = optimizer
        self._links, self._mean = links_of(comm, nccl), mean
        self._flat: Flat | None = None
        self._dealt_for = 0
        self._asking = Asking(self._links, optimizer)
        self._paths: dict[str, int] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> DataParallel:
        """Return a copy with its own state, distributed over the same processes."""
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        vars(new).update(vars(self))
        new.optimizer = copy.deepcopy(self.optimizer, memo)
        new._asking = Asking(self._links, new.optimizer)
        for own, other in zip(new._sessions(), self._sessions(), strict=True):
            own.spread = other.spread
        return new

    @property
    def rank(self) -> int:
        """The rank of this process, from 0."""
        return self._links.rank

    @property
    def world(self) -> int:
        """The number of processes."""
        return self._links.world

    @property
    def iterations(self) -> int:
        """Number of steps taken."""
        return int(self.optimizer.iterations)

    @property
    def last_step(self) -> Any:
        """What the last step did; see `Optimizer.last_step`."""
        return self.optimizer.last_step

    @property
    def state_bytes(self) -> int:
        """Size in bytes of the slots on this process."""
        held = (
            x for s in self._sessions() if s.state for own in s.state.slots for x in own.values()
        )
        return sum(int(x.nbytes) for x in held)

    def __repr__(self) -> str:
        """Return a description with the optimizer and the processes."""
        return f"DataParallel({self.optimizer!r}, rank {self.rank} of {self.world})"

    # ---- stepping

    def init(self, params: Tree) -> None:
        """Make the state for this process's share.

        Parameters
        ----------
        params : tree of arrays
            The parameters.

        Raises
        ------
        TypeError, ValueError
            If an array belongs to an unsupported library, or the processes' parameters differ.
        """
        with self._lock:
            asked, _, _ = self._agreed(params)
            self._together(partial(self.optimizer.init, asked.parts))

    build = init

    def apply(self, grads: Tree, params: Tree) -> Tree:
        """Take one step with the mean of the gradients of all processes.

        Parameters
        ----------
        grads : tree of arrays
            This process's gradients, structured like `params`. A gradient that is None on some
            processes counts as zero there; if it is None on all, its parameter is not changed.
        params : tree of arrays
            The parameters, equal on all processes; updated in place.

        Returns
        -------
        tree of arrays
            `params` itself.

        Raises
        ------
        RuntimeError
            If another process could not take the step; the message says why.
        TypeError, ValueError
            As from `Optimizer.apply`. Nothing has changed then on any process.
        """
        return self._through(self.optimizer.apply, grads, params)

    def ascend(self, grads: Tree, params: Tree) -> Tree:
        """Move the parameters uphill, if the optimizer is a `SAM`; see `SAM.ascend`."""
        return self._through(self.optimizer.ascend, grads, params)

    def update_hessian(self, estimates: Tree, params: Tree) -> None:
        """Update the Hessian's diagonal estimate with the mean of all processes' estimates.

        Collective. For optimizers with this method, such as `Sophia`. If gradients are summed,
        the sum of the estimates is used.
        """
        if not hasattr(self.optimizer, "update_hessian"):
            raise ValueError(
                f"DataParallel.update_hessian: {self.optimizer!r} does not use estimates; "
                "Sophia does"
            )
        self._through(self._updated_hessian, estimates, params)

    def _updated_hessian(self, estimates: Tree, params: Tree) -> Tree:
        self.optimizer.update_hessian(estimates, params)
        return params

    def averages(self, params: Tree) -> Tree:
        """Return the averages of the whole parameters; see `Optimizer.averages`."""
        with self._lock:
            asked, _, _ = self._agreed(params)
            found = flatten(self._together(partial(self.optimizer.averages, asked.parts)))[0]
            new = [None if p is None else p.copy(order="K") for p in asked.leaves]
            for x, part in zip(self._split.parts(new), found, strict=True):
                if x is not None:
                    x[...] = part
            self._split.share(new)
            return asked.structure.build(new)

    def tell_loss(self, loss: Any) -> None:
        """Pass the loss of the next step; see `Optimizer.tell_loss`.

        Collective: each process passes the loss of its own gradients. Their mean counts, or their
        sum if gradients are summed.
        """
        self._told(loss, self.optimizer.tell_loss)

    def _hear(self, value: Scalar) -> None:
        if self._sessions()[-1].settings.loss_guarded:
            self._told(value, self.optimizer._hear)

    def _told(self, loss: Any, tell: Callable[[float], None]) -> None:
        with self._lock:
            number = self._together(partial(number_told, loss, type(self).__name__))
            whole = float(self._links.added(np.array([number]))[0])
            self._together(partial(tell, whole / self.world if self._mean else whole))

    def _through(self, step: Callable[[Tree, Tree], Tree], grads: Tree, params: Tree) -> Tree:
        with self._lock:
            try:
                asked, found, present = self._agreed(params, grads)
                mine = self._split.reduced(asked.leaves, found, present, self._mean)
                self._together(partial(step, asked.structure.build(mine), asked.parts))
            except BaseException:
                self._sessions()[-1].untell()
                raise
            self._split.share(asked.leaves)
            return params

    def _agreed(self, params: Tree, grads: Tree = None) -> tuple[Asked, list[Any], list[bool]]:
        """Return parameters, gradients, and which gradients exist on any process; see `Asking`."""
        asked, found, present = self._asking.agreed(params, grads)
        if self._flat is None or self._dealt_for != asked.number:
            self._flat = self._together(partial(self._dealt, asked))
            self._dealt_for = asked.number
        if asked.parts is None:
            asked.parts = asked.structure.build(self._flat.parts(asked.leaves))
        return asked, found, present

    def _together(self, act: Callable[[], Any]) -> Any:
        return together(self._links, act)

    def _dealt(self, asked: Asked) -> Flat:
        """Return the distribution of pieces over processes."""
        leaves, structure = asked.leaves, asked.structure
        sessions = self._sessions()
        for session in sessions:
            if session.state is not None or isinstance(session.pending, list):
                raise ValueError(
                    f"{session.formula!r} already has state for other parameters or pieces; set "
                    "agc and constraints, and pass it here, before its first step"
                )
        shapes = [None if x is None else tuple(x.shape) for x in leaves]
        cut = [
            x is not None and not need and (x.flags.c_contiguous or x.flags.f_contiguous)
            for x, need in zip(leaves, asked.needs, strict=True)
        ]
        dealt = pieces_of(shapes, cut, self.world)
        flat = Flat(self._links, dealt, leaves)
        mine = {piece.place for piece in dealt if piece.owner == self.rank and piece.whole}
        owned = [i in mine for i in range(len(leaves))]
        paths = {path: i for i, path in enumerate(structure.paths)}
        for session in sessions:
            session.spread = PieceSpread(self._links, shapes, owned)
            if session.pending is not None:
                assert not isinstance(session.pending, list)
                session.pending = cut_up(session.pending, flat, paths)
        self._paths = paths
        return flat

    def _sessions(self) -> list[Session]:
        return sessions_of(self.optimizer)

    # ---- the state

    @property
    def _lock(self) -> Any:
        return self.optimizer._lock

    @property
    def _split(self) -> Flat:
        assert self._flat is not None
        return self._flat

    def _record(self) -> Record:
        from ...persistence import Together

        record: Record = self.optimizer._record()
        if self._flat is None:
            return record
        slots = {
            slot: [
                partial(joined, self._links, self._flat, self._paths[path], array)
                for path, array in zip((record.paths or {})[slot], arrays, strict=True)
            ]
            for slot, arrays in record.slots.items()
        }
        return replace(record, slots=slots, together=Together(self.rank == 0, self._links.told))

    def _load(self, record: Record, strict: bool, hyperparameters: bool) -> LoadReport:
        def load() -> LoadReport:
            mine = record
            if self._flat is not None:
                mine = cut_up(record, self._flat, self._paths)
            return self.optimizer._load(mine, strict, hyperparameters)

        found: LoadReport = self._together(load)
        return found
