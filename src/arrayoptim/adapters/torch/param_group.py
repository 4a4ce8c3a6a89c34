"""One parameter group: the optimizer that steps it, and its state as torch keeps it."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import torch

from ..._typing import Scalar
from ...arrays.trees import Structure
from ...numerics.slots import Layout
from ...step import checks
from ...step.session import session_of
from ...step.state import State
from .entries import (
    COUNTERS,
    Entry,
    begun,
    faults_of,
    refuse_otherwise_shared_out,
    slots_of,
)
from .keys import Spelling
from .shards import Tensor, is_shared_out, local, refuse_misplaced, shared_out


class Part:
    """The optimizer of one parameter group.

    The truth is the state that torch keeps. The optimizer's slots are the very tensors in it; where
    they are others than at the last step, as after loading, the optimizer takes them up.

    Parameters
    ----------
    spelling : Spelling
        How the group spells the hyperparameters.
    group : dict
        The parameter group, which schedulers write into.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is of another kind or outside its interval.
    """

    def __init__(self, spelling: Spelling, group: dict[str, Any]) -> None:
        self.spelling, self.group = spelling, group
        self._words: set[str] = set()
        self._require_spelled()
        self._values = spelling.plain(group)
        self.core = spelling.core(**self._values)
        self._names = spelling.state_names(self.core.preset)
        self.params: list[Tensor] = []
        self.leaves: list[Tensor] = []
        self.structure = Structure((), list)
        self._numbers: Entry = {}

    def check(self) -> None:
        """Take over what was written into the group, and look at the gradients.

        Raises
        ------
        RuntimeError
            If a gradient is sparse.
        TypeError, ValueError
            If a hyperparameter is wrong, or a gradient distributed otherwise than its parameter.
        """
        self._follow()
        given = [(p, p.grad) for p in self.group["params"] if p.grad is not None]
        for p, g in given:
            if g.layout is not torch.strided:
                raise RuntimeError(
                    f"{self.spelling.name} does not support sparse gradients; found one of "
                    f"parameter {self.paths()[id(p)]!r}; SparseAdam, SGD and Adagrad take them, "
                    "and embeddings give dense ones with sparse=False"
                )
            if is_shared_out(p) or is_shared_out(g):
                refuse_misplaced(g, p, self.paths()[id(p)])

    def gathered(self, state: MutableMapping[Tensor, Entry]) -> list[Tensor | None] | None:
        """Make ready for a step, and give the gradients; None where the group has none.

        Raises
        ------
        TypeError, ValueError
            If the state does not fit. No parameter has changed then.
        """
        params = [p for p in self.group["params"] if p.grad is not None or state.get(p)]
        found = [p.grad for p in params]
        if all(g is None for g in found):
            return None
        leaves = params
        if any(map(is_shared_out, params)):
            leaves, found = list(map(local, params)), [g if g is None else local(g) for g in found]
        if not self._current(params, leaves, state):
            self._take_up(params, leaves, state)
        self._read_numbers()
        if self.group.get("maximize"):
            negated = iter(torch._foreach_neg([g for g in found if g is not None]))
            found = [g if g is None else next(negated) for g in found]
        return found

    def squares(self, grads: Sequence[Tensor | None]) -> Mapping[int, float]:
        """Return the sums of squares of those gradients for which an engine has them."""
        return session_of(self.core).engines(self.leaves, self.structure, grads).squares()

    def step(
        self, grads: Sequence[Tensor | None], norm: Scalar | None, state: Mapping[Tensor, Entry]
    ) -> None:
        """Step the parameters, and let the state of torch follow."""
        session, kept = session_of(self.core), self._state()
        before = list(kept.slots)
        with session.lock:
            session.take(grads, self.leaves, self.structure, norm=norm)
        for p, old, new in zip(self.params, before, kept.slots, strict=True):
            if new is not old:
                state[p].update({self._word(k): shared_out(x, p) for k, x in new.items()})
        for name, value in self._counted().items():
            self._numbers[name].fill_(value)

    # ---- the state

    def fit(
        self, params: Sequence[Tensor], leaves: Sequence[Tensor], state: Mapping[Tensor, Entry]
    ) -> tuple[Structure, list[dict[str, Tensor]], dict[str, float]]:
        """Check what a state holds for some parameters of the group.

        Returns
        -------
        structure : Structure
            The paths of the parameters.
        held : list of dict
            For each parameter its slots, empty where it has none yet.
        numbers : dict of str to float
            Counters and scalar state, empty where there is no state yet.

        Raises
        ------
        ValueError
            If slots are missing or misshapen, or the parameters differ in a counter.
        """
        paths = self.paths()
        structure = Structure(tuple(paths[id(p)] for p in params), list)
        described = checks.describe(leaves, structure)
        session = session_of(self.core)
        layouts = session.assign(described).layouts
        scalars = session.settings.initial_scalars()
        held: list[dict[str, Tensor]] = []
        numbers: dict[str, float] = {}
        for p, leaf, layout in zip(params, described, layouts, strict=True):
            assert leaf is not None
            assert layout is not None
            wanted = layout.slots(leaf.dtype)
            entry = self._entry(state.get(p) or {}, (*wanted, *scalars))
            found = {name: x for name, x in entry.items() if name in wanted and x is not None}
            if entry:
                refuse_otherwise_shared_out(found, p, leaf.path)
                shapes = layout.shapes(leaf.shape, leaf.dtype)
                faults = faults_of(entry, found, shapes, wanted, scalars, self._word)
                if faults:
                    raise ValueError(f"the state of {leaf} does not fit {self.core!r}. {faults}")
            own = {name: float(entry.get(name, 0)) for name in (*COUNTERS, *scalars) if entry}
            if own and numbers and own != numbers:
                raise ValueError(
                    f"the state of parameter {leaf.path!r} has {own}, that of others of its group "
                    f"{numbers}; parameters with different counts belong into different groups"
                )
            numbers = own or numbers
            held.append(slots_of(found, wanted))
            self._refuse_unshardable(p, leaf.path, layout)
        return structure, held, numbers

    def paths(self) -> dict[int, str]:
        """Return the name of each parameter by its identity; its number where it has no name."""
        params = self.group["params"]
        names: Iterable[Any] = self.group.get("param_names") or range(len(params))
        return {id(p): str(name) for p, name in zip(params, names, strict=True)}

    def _entry(self, entry: Entry, names: Iterable[str]) -> Entry:
        """Return what a state holds of a parameter by our names; nothing where it has not begun."""
        words = {self._word(name): name for name in names}
        if not begun(entry, words):
            return {}
        found = {words.get(word, word): x for word, x in entry.items()}
        if "step" not in found and "momentum_buffer" in words:
            found["step"] = 1.0  # torch's SGD does not count, but the buffer tells of a step
        return found

    def _word(self, name: str) -> str:
        """Return the name in torch's state of a slot or of scalar state."""
        return self._names.get(name, name)

    def _take_up(
        self,
        params: list[Tensor],
        leaves: list[Tensor],
        state: MutableMapping[Tensor, Entry],
    ) -> None:
        structure, held, numbers = self.fit(params, leaves, state)
        session = session_of(self.core)
        described = checks.describe(leaves, structure)
        checks.no_overlap(leaves, structure)
        session.reset()
        new = session.fresh(leaves, described, held)
        session.replace(new)
        self.params, self.leaves, self.structure = params, leaves, structure
        self._count(numbers)
        self._numbers = {
            name: torch.tensor(float(value), dtype=torch.float64)
            for name, value in self._counted().items()
        }
        for p, slots in zip(params, new.slots, strict=True):
            entry = state.setdefault(p, {})
            for name, x in slots.items():
                word = self._word(name)
                if word not in entry or local(entry[word]) is not x:
                    entry[word] = shared_out(x, p)
            entry.update(self._numbers)

    def _current(
        self, params: list[Tensor], leaves: list[Tensor], state: Mapping[Tensor, Entry]
    ) -> bool:
        kept = session_of(self.core).state
        if len(params) != len(self.params) or kept is None:
            return False
        if not all(map(operator.is_, params, self.params)):
            return False
        if not all(map(operator.is_, leaves, self.leaves)):
            return False
        for p, slots in zip(params, kept.slots, strict=True):
            entry = state.get(p, {})
            for name, x in slots.items():
                held = entry.get(self._word(name))
                if held is not x and (not is_shared_out(held) or local(held) is not x):
                    return False
            if any(entry.get(name) is not x for name, x in self._numbers.items()):
                return False
        return True

    def _state(self) -> State:
        state = session_of(self.core).state
        assert state is not None
        return state

    def _counted(self) -> dict[str, float]:
        """Return counters and scalar state by their names in torch's state."""
        state = self._state()
        counted = {self._word(name): value for name, value in state.scalars.items()}
        counted["step"] = state.iterations
        return counted | ({"skipped": state.skipped} if self.core.nonfinite == "skip" else {})

    def _count(self, numbers: Mapping[str, float]) -> None:
        state = self._state()
        if numbers:
            state.iterations, state.skipped = int(numbers["step"]), int(numbers.get("skipped", 0))
            state.scalars.update({name: numbers[name] for name in state.scalars})

    def _read_numbers(self) -> None:
        ours = {word: name for name, word in self._names.items()}
        self._count({ours.get(word, word): float(x) for word, x in self._numbers.items()})

    # ---- hyperparameters and refusals

    def _follow(self) -> None:
        """Take over what a scheduler or the user wrote into the group."""
        self._require_spelled()
        values = self.spelling.plain(self.group)
        if values == self._values:
            return
        for name, value in values.items():
            if value != self._values[name]:
                setattr(self.core, name, value)
                self._values[name] = value
                if not self.core.hyperparameters[name].numeric or name == "momentum":
                    self.params = []  # what the state holds may be different now
        self._names = self.spelling.state_names(self.core.preset)

    def _require_spelled(self) -> None:
        if self.group.keys() != self._words:
            self.spelling.require_spelled(self.group)
            self._words = set(self.group)

    def _refuse_unshardable(self, p: Tensor, path: str, layout: Layout) -> None:
        if not is_shared_out(p) or all(placement.is_replicate() for placement in p.placements):
            return
        words = ("clipnorm_per_tensor", "agc")
        whole = [word for word in words if getattr(self.core, word) is not None]
        whole += ["constraint"] * (layout.constraint is not None)
        if layout.rule.kind != "elementwise" or whole:
            with_ = f" with {', '.join(whole)}" if whole else ""
            raise ValueError(
                f"{self.spelling.name}{with_} steps each array as a whole; of parameter {path!r} a "
                f"process holds only a part ({p.placements}). Use it where parameters are "
                "replicated, as under DDP"
            )
        if self.core.state_dtype == "int8":
            raise ValueError(
                f'{self.spelling.name}: state_dtype="int8" keeps blocks of numbers, which the '
                f"parts of parameter {path!r} ({p.placements}) cut through; use "
                'state_dtype="bfloat16"'
            )
