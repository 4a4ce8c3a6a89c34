"""Keeping state: as lists of arrays, and as records of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array, Tree
from ..arrays.libraries import backend_of
from ..arrays.trees import Structure
from ..config.keras import translate
from ..config.registry import ALIASES
from . import checks
from .fingerprint import require_same
from .restore import LoadReport, blaming, from_list, from_record, lost, refuse_lost
from .state import State
from .stepping import Stepping

if TYPE_CHECKING:
    from .. import persistence


class Persistent(Stepping):
    """The part of `arrayoptim.Optimizer` that saves and restores."""

    def reset(self) -> None:
        """Forget all state, loaded and not yet used state too; the hyperparameters stay."""
        super().reset()
        self._pending: persistence.Record | list[Any] | None = None
        self._pending_strict = True
        self._expected: str | None = None

    @property
    def weights(self) -> list[Any]:
        """The state's own arrays, in the order of `get_weights`; empty before `init`."""
        if self._state is None:
            return []
        arrays = [slots[name] for name, _, slots in self._state.entries()]
        return [self._state.iterations, *self._state.scalars.values(), *arrays]

    def get_weights(self) -> list[np.ndarray]:
        """Give the state as host arrays, in Keras's order.

        Returns
        -------
        list of numpy.ndarray
            Copies: ``iterations`` (int64), each scalar state (float64), then slot by slot the
            arrays of all parameters. Empty before `init`.
        """
        with self._lock:
            return self._state.weights() if self._state else []

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replace the state by what `get_weights` gave, here or in Keras 2.0.

        Parameters
        ----------
        weights : sequence of array
            As from `get_weights`. Keras 2.0's shorter lists are known: without ``iterations`` for
            RMSprop, Adagrad and Adadelta, without ``m_schedule`` for Nadam; what a list lacks
            stays as it is. Before `init` the list is kept, and checked when the parameters are
            first seen.

        Raises
        ------
        ValueError
            If the count, or an entry's shape or kind is wrong. Nothing has changed then.
        """
        with self._lock:
            if self._state is None:
                self._pending = [np.array(value) for value in weights]
            else:
                self._replace_state(from_list(self._state, list(weights), type(self).__name__))

    def _record(self) -> persistence.Record:
        from .. import persistence

        super()._require_state()
        assert self._state is not None
        if self._state.interrupted:
            raise RuntimeError("a step was interrupted half-way; this state is not worth saving")
        slots: dict[str, list[Any]] = {name: [] for name in self._state.names}
        paths: dict[str, list[str]] = {name: [] for name in self._state.names}
        for name, leaf, held in self._state.entries():
            slots[name].append(partial(_to_host, held[name]))
            paths[name].append(leaf.path)
        return persistence.Record(
            source="arrayoptim",
            class_name=type(self).__name__,
            config=self.get_config(),
            iterations=self.iterations,
            scalars=dict(self._state.scalars),
            slots=slots,
            paths=paths,
            notes=[],
            skipped=self.skipped,
        )

    def _require_state(self) -> None:
        if self._pending is None:
            super()._require_state()

    def _load_into(
        self,
        params: Tree,
        record: persistence.Record,
        *,
        strict: bool = True,
        hyperparameters: bool = False,
        numbers: Mapping[str, float] | None = None,
    ) -> LoadReport:
        """Restore a record for these parameters, and set numbers; all of it or nothing."""
        with self._lock:
            before = dict(vars(self))
            try:
                if self._state is not None and self._state.interrupted:
                    self.reset()
                self.init(params)
                report = self._load(record, strict=strict, hyperparameters=hyperparameters)
                for name, value in (numbers or {}).items():
                    setattr(self, name, value)
            except Exception:
                vars(self).update(before)
                raise
            return report

    def _load(self, record: persistence.Record, strict: bool, hyperparameters: bool) -> LoadReport:
        name = type(self).__name__
        with self._lock, blaming(record):
            if record.class_name is not None and record.class_name.lower() != name.lower():
                raise ValueError(
                    f"found the state of {record.class_name}, wanted {name}; arrayoptim.load() "
                    "makes the optimizer that a file describes"
                )
            before, left_out = self._hyper, list[str]()
            wanted = dict(before)
            if hyperparameters:
                wanted, left_out = self._recorded_hyper(record)
            record.notes.extend(f"not taken over: {what}" for what in left_out)
            expected = record.fingerprint if strict else None
            changed = [
                f"{name}: {wanted[name]!r} from the file, was {value!r}"
                for name, value in before.items()
                if wanted[name] is not value and wanted[name] != value
            ]
            if self._state is None:
                self._expected = expected
                self._hyper, self._pending, self._pending_strict = wanted, record, strict
                self._first_iteration = record.iterations or 0
                notes = [*record.notes, "kept until init(params)"]
                return LoadReport(record.source, notes=notes, changed=changed)
            self._hyper = wanted
            try:
                new, report = from_record(self._reshaped(self._state), record, strict=strict)
            except Exception:
                self._hyper = before
                raise
            self._replace_state(new)
            self._expected = expected
            report.changed += changed
            return report

    def _ready(self, leaves: Sequence[Array | None], structure: Structure) -> State:
        if self._expected is not None:
            require_same(self._expected, leaves, structure.paths)
        state = super()._ready(leaves, structure)
        self._expected = None
        return state

    def _reshaped(self, state: State) -> State:
        """Give a zero state over the same parameters where the present rule has other slots."""
        layouts = self._assign(state.leaves).layouts
        rows = zip(state.leaves, layouts, state.slots, strict=True)
        same = all(
            leaf is None or layout is None or set(layout.slots(leaf.dtype)) == set(held)
            for leaf, layout, held in rows
        )
        if same and set(self._initial_scalars()) == set(state.scalars):
            return state
        like = [next(iter(slots.values()), None) for slots in state.slots]
        if any(leaf and x is None for leaf, x in zip(state.leaves, like, strict=True)):
            raise ValueError("load before init(params): the file's optimizer has other slots")
        return self._fresh(like, state.leaves)

    def _recorded_hyper(self, record: persistence.Record) -> tuple[dict[str, Any], list[str]]:
        """Give the file's hyperparameters, checked, over the present ones, and what is lost."""
        own = record.source.startswith("arrayoptim")
        found, left_out = translate(type(self).__name__, record.config or {})
        config = {ALIASES.get(name, name): value for name, value in found.items()}
        values = dict(self._hyper)
        missing = [k for k, v in config.items() if lost(v)]
        plain = [k for k in missing if isinstance(values.get(k), int | float | None)]
        refuse_lost({k: config[k] for k in plain})
        for name, declared in type(self).hyperparameters.items():
            if own and name not in config and name != "name":
                values[name] = declared.default_under(config.get("preset"))
            elif name in config and name not in missing:
                values[name] = declared.checked(config[name], type(self))
        return values, left_out

    def _fresh(
        self,
        params: Sequence[Array | None],
        leaves: tuple[checks.Leaf | None, ...],
        held: Sequence[dict[str, Array]] = (),
    ) -> State:
        state, pending = super()._fresh(params, leaves, held), self._pending
        if isinstance(pending, list):
            state = from_list(state, pending, type(self).__name__)
        elif pending is not None:
            with blaming(pending):
                state, _ = from_record(state, pending, strict=self._pending_strict)
        return state

    def _replace_state(self, state: State) -> None:
        super()._replace_state(state)
        self._pending = None


def _to_host(x: Array) -> np.ndarray:
    return backend_of(x).to_host(x)
