"""The base of optimizers of other libraries behind this library's interface."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from .._locks import lock
from .._typing import Array, Scalar, Tree
from ..arrays.derivatives import gradients_of, value_and_gradients
from ..arrays.libraries import backend_of
from ..arrays.trees import Structure, flatten
from ..config.registry import nearest
from ..config.spoken import part_of
from ..step import checks
from ..step.checks import Leaf
from ..step.shared_methods import Surface
from ..step.updates import StateTarget, Updating, is_loss
from .handover import scaled
from .records import Kept


@part_of("arrayoptim.optimizer", "Optimizer")
class Foreign(Kept, Updating, Surface):
    """Base of the classes that drive an optimizer of another library, which does the arithmetic.

    ``native`` is that optimizer; read and set its hyperparameters there.
    """

    wanted: ClassVar[str]
    """The argument of the constructor, in words."""

    pure: ClassVar[bool] = False
    """Whether the native optimizer changes nothing when it raises."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._lock = lock()
        self._iterations = 0
        self._leaves: tuple[Leaf | None, ...] | None = None
        self._pending: tuple[Any, bool] | None = None
        self._interrupted = False

    # ---- what depends on the library

    @abstractmethod
    def _build(self, leaves: Sequence[Array | None], structure: Structure) -> None:
        """Create the native state; errors of the native optimizer propagate."""

    @abstractmethod
    def _advance(
        self,
        gradients: Sequence[Array | None],
        leaves: Sequence[Array | None],
        structure: Structure,
        **extra: Any,
    ) -> list[Array | None]:
        """Step natively, update writeable arrays in place, and return the parameters."""

    # ---- stepping

    @property
    def native(self) -> Any:
        """The optimizer that does the work."""
        return self._native

    def init(self, params: Tree) -> None:
        """Create the state for a tree of parameters; `build` is an alias."""
        with self._lock:
            self._ready(*flatten(params))

    build = init

    def apply(self, grads: Tree, params: Tree) -> Tree:
        """Take one step; see `Optimizer.apply`."""
        return self._apply(grads, params)

    def _descend(self, loss: Any, value: Scalar, gradients: Tree, params: Tree) -> Tree:
        return self._apply(gradients, params, **self._extra(loss, value, gradients, params))

    def _extra(self, loss: Any, value: Scalar, gradients: Tree, params: Tree) -> dict[str, Any]:
        """Return extra arguments of a step of `minimize`, besides gradients."""
        return {}

    def _apply(self, grads: Tree, params: Tree, unscale: float = 1.0, **extra: Any) -> Tree:
        leaves, structure = flatten(params)
        found, other = flatten(grads, "gradients")
        checks.same_structure(other, structure)
        checks.gradients(found, leaves, structure)
        with self._lock:
            self._ready(leaves, structure)
            new = self._step(scaled(found, unscale), leaves, structure, **extra)
        if all(a is b for a, b in zip(new, leaves, strict=True)):
            return params
        return structure.build(new)

    def _step(
        self, gradients: Sequence[Any], leaves: Sequence[Any], structure: Structure, **extra: Any
    ) -> list[Array | None]:
        self._interrupted = True
        try:
            new = self._advance(gradients, leaves, structure, **extra)
        except Exception:
            self._interrupted = not self.pure
            raise
        self._iterations += 1
        self._interrupted = False
        return new

    def _ready(self, leaves: Sequence[Array | None], structure: Structure) -> None:
        """Check the parameters, and create the state if there is none."""
        if self._interrupted:
            raise RuntimeError(
                "a step of this optimizer failed or was interrupted half-way; load a checkpoint of "
                "parameters and optimizer, or reset() the optimizer"
            )
        if any(p is not None and backend_of(p).traced(p) for p in leaves):
            raise TypeError(
                f"{type(self).__name__} keeps its state outside of compiled functions; call it "
                "where arrays have values"
            )
        found = checks.describe(leaves, structure)
        if self._leaves is not None:
            checks.same_tree(self._leaves, found)
        checks.no_overlap(leaves, structure)
        if self._leaves is not None:
            return
        try:
            self._build(leaves, structure)
            self._leaves = found
            if self._pending is not None:
                self._restore(*self._pending)
        except Exception:
            self._leaves = None
            self._renew()
            raise
        self._pending = None

    def get_gradients(self, loss: Any, params: Tree) -> Tree:
        """Differentiate a loss, without clipping, which is native; see `Optimizer.get_gradients`.

        Parameters
        ----------
        loss : torch.Tensor or callable
            The loss.
        params : tree of arrays
            The parameters.

        Returns
        -------
        tree of arrays
            The gradients.
        """
        gradients, leaves, structure = gradients_of(loss, params)
        checks.gradients(gradients, leaves, structure)
        return structure.build(gradients)

    def get_updates(self, params: Tree, loss: Any) -> list[tuple[Any, Any]]:
        """Compute a step without applying it; see `Optimizer.get_updates`.

        Parameters
        ----------
        params : tree of arrays
            The parameters.
        loss : torch.Tensor or callable
            The loss. The two arguments may be swapped.

        Returns
        -------
        list of (target, new value)
            The whole state as one target, then the parameters. `apply_updates` applies them.
        """
        if is_loss(params) and not is_loss(loss):
            params, loss = loss, params
        value, gradients, leaves, structure = value_and_gradients(loss, params)
        checks.gradients(gradients, leaves, structure)
        extra = self._extra(loss, value, structure.build(gradients), params)
        with self._lock:
            self._ready(leaves, structure)
            before = self._state(self._native_state())
            try:
                new = self._rehearse(gradients, leaves, structure, **extra)
                after = self._state(self._native_state())
            finally:
                self._replace(before)
                self._interrupted = False
        return [
            (StateTarget(self, "state"), after),
            *((p, x) for p, x in zip(leaves, new, strict=True) if p is not None),
        ]

    def _rehearse(
        self, gradients: Sequence[Any], leaves: Sequence[Any], structure: Structure, **extra: Any
    ) -> list[Array | None]:
        """Step on copies."""
        copies = [None if p is None else backend_of(p).copy(p) for p in leaves]
        return self._step(gradients, copies, structure, **extra)

    def _put(self, target: StateTarget, value: Any) -> None:
        if self._leaves is None:
            raise ValueError("these updates are of a state that was reset")
        self._replace(value)

    # ---- object protocol

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._described()[0]})"

    def __setattr__(self, name: str, value: Any) -> None:
        """Raise for attributes of the native optimizer and for unknown ones."""
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r} to set"
                f"{nearest(name, ['iterations'])}; those of the native optimizer are set at "
                "`native`"
            )
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Omit the lock, which cannot be pickled."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, with a new lock."""
        vars(self).update(state, _lock=lock())
