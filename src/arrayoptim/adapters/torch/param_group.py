"""One parameter group: its optimizer, and its state as torch keeps it."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch

from ..._typing import Scalar
from ...arrays.rows import Rows, as_rows, stored
from ...arrays.trees import Structure
from ...engines import on_gpu
from ...gradients import Pending
from ...numerics.slots import Layout
from ...step import checks
from ...step.counted import Counted
from ...step.report import StepReport
from ...step.session import session_of
from ...step.sharding import takes_wholes
from ...step.state import State
from ...step.summary import Summary, summary_of
from .capturing import NOT_ASKED, NOT_BEGUN, live_numbers, refuse_unready, with_known
from .counts import Counts, Numbers, numbers_of, put
from .device_counts import DeviceCounts
from .differentiable import (
    refuse_undifferentiable,
    refuse_undifferentiable_arrays,
    step_recorded,
)
from .meshes import MeshSpread
from .shards import (
    PLAIN,
    Tensor,
    all_plain,
    in_parts,
    is_shared_out,
    local,
    refuse_misplaced,
    shared_out,
)
from .spelling import Spelling
from .state_entries import (
    COUNTERS,
    Entry,
    begun,
    faults_of,
    refuse_otherwise_shared_out,
    slots_of,
)

DENSIFYING = {"SGD", "Adagrad"}
"""Classes that skip entries without a gradient, or take these as 0, as torch's do."""


def _there(g: Tensor | None) -> bool:
    return g is not None


_grad, _layout = operator.attrgetter("grad"), operator.attrgetter("layout")
_NONE = type(None)


def _all_strided(grads: Iterable[Tensor | None]) -> bool:
    return {*map(_layout, filter(_there, grads))} <= {torch.strided}


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

    _usual = torch.strided
    _never: str | None = None
    """Why no CUDA graph holds steps of groups of this kind."""

    def __init__(self, spelling: Spelling, group: dict[str, Any]) -> None:
        self.spelling, self.group = spelling, group
        self._words: set[str] = set()
        self._seen: list[Any] = []
        self._require_spelled()
        self._values = spelling.plain(group)
        self.live = live_numbers(spelling, group) if group["capturable"] else {}
        self.counted: Counted | None = None
        self.kept: list[Counted] = []
        self._unserved: str | None = self._never
        self._reason = NOT_BEGUN
        self._capturable, self._on_gpu = bool(group["capturable"]), False
        self.core = spelling.core(**self._values)
        self.measuring = _together(self.core._hyper)
        self._names = spelling.state_names(self.core.preset)
        self.params: list[Tensor] = []
        self.leaves: list[Tensor] = []
        self.structure = Structure((), list)
        self._shapes: dict[int, dict[str, tuple[int, ...]]] = {}
        self._counts: Counts | DeviceCounts | None = None
        self.sparse = False
        self._plain = self._again = self._missing = self._dense = False

    def check(self) -> list[Tensor | None]:
        """Read what was written into the group, and return the gradients, which are checked.

        Raises
        ------
        RuntimeError
            If a gradient is sparse.
        TypeError, ValueError
            If a hyperparameter is wrong, or a gradient distributed otherwise than its parameter.
        """
        if self._on_gpu or not self.params:
            self._refuse_unready()
        self._follow()
        params, known = self.group["params"], self.params
        self._again = len(params) == len(known) and all(map(operator.is_, params, known))
        # Each tensor is asked once a step: `gathered` goes on from here.
        found = list(map(_grad, params))
        kinds = {*map(type, found)}
        if self.group["fused"] and any(g.is_meta for g in filter(_there, found)):
            raise RuntimeError(
                "`fused=True` requires all the params to be floating point Tensors of supported "
                f"devices: {self.spelling.name} found some on meta, where they have no values"
            )
        self._missing = _NONE in kinds
        layouts = {*map(_layout, filter(_there, found) if self._missing else found)}
        self._dense = layouts <= {torch.strided}
        if layouts <= {self._usual} and kinds <= PLAIN and self._unsharded(params):
            return found
        for p, g in zip(params, found, strict=True):
            if g is not None:
                self._require_layout(g, p)
                if is_shared_out(p) or is_shared_out(g):
                    refuse_misplaced(g, p, self.paths()[id(p)])
        return found

    def _unsharded(self, params: Sequence[Tensor]) -> bool:
        if self._again and self._plain:
            return True
        return all_plain(params) or not any(map(is_shared_out, params))

    def _require_layout(self, g: Tensor, p: Tensor) -> None:
        """Refuse a sparse gradient where its missing entries cannot count as zeros."""
        if g.layout is torch.strided:
            return
        name = self.spelling.name
        if self.group["sparse"] is not None and g.layout is torch.sparse_coo:
            return
        if name not in DENSIFYING or g.layout is not torch.sparse_coo:
            raise RuntimeError(
                f"{name} does not support sparse gradients; found one of parameter "
                f"{self.paths()[id(p)]!r}; SparseAdam, SGD and Adagrad take them, {name} with "
                'sparse="exact" or "lazy", and embeddings give dense ones with sparse=False'
            )
        if name == "Adagrad" and self.group["weight_decay"]:
            raise RuntimeError(
                "Adagrad: weight_decay option is not compatible with sparse gradients, as of "
                f"parameter {self.paths()[id(p)]!r}"
            )

    def prepare(self, grads: Sequence[Tensor | None]) -> None:
        """Have engines check parameters and gradients, before anything changes."""
        if self.sparse:
            return  # which rows there are is new with each step
        if self.counted is not None:
            self.counted.check(grads)
            return
        session_of(self.core).engines(self.leaves, self.structure, grads)

    @property
    def turns(self) -> int:
        """The largest number of times that one parameter occurs in the group."""
        if self._again:
            return 1
        return max(Counter(map(id, self.group["params"])).values(), default=1)

    def gathered(
        self,
        found: list[Tensor | None],
        state: MutableMapping[Tensor, Entry],
        same: bool,
        turn: int = 0,
    ) -> list[Tensor | None] | None:
        """Prepare a step, and return the gradients; None where the group has none.

        Parameters
        ----------
        found : list of Tensor or None
            What `check` has returned.
        state : mapping
            The state of torch.
        same : bool
            Whether all in it is the same as after the last step.
        turn : int
            Only parameters are stepped that are given more often than that.

        Raises
        ------
        TypeError, ValueError
            If the state does not fit. No parameter has changed then.
        """
        params = self.group["params"]
        if turn or self.turns > 1:
            times = Counter(map(id, params))
            params = list({id(p): p for p in params if times[id(p)] > turn}.values())
            found = list(map(_grad, params))
        missing = self._missing
        if missing:
            params = [p for p in params if p.grad is not None or "step" in state.get(p, ())]
            found = list(map(_grad, params))
            kinds = {*map(type, found)}
            if kinds <= {_NONE}:
                return None
            missing = _NONE in kinds
        leaves, dense = params, self._dense
        if not self._unsharded(params):
            leaves, found = list(map(local, params)), [g if g is None else local(g) for g in found]
            dense = False
        if not (self._holds(params, leaves) and (same or self._current(state))):
            self._take_up(list(params), list(leaves), state)
        counts = self._counts
        assert counts is not None
        counts.read()
        if missing and not self.together():
            counts.part()
        self.sparse = not (dense or _all_strided(found))
        if self.sparse and self.counted is not None:
            self.leave_to_host("a gradient is sparse, whose rows are others each time")
            self._take_up(list(params), list(leaves), state)
        found = list(map(as_rows, found)) if self.sparse else found
        if self.group.get("maximize"):
            negated = iter(torch._foreach_neg([g for g in stored(found) if g is not None]))
            new = [g if g is None else next(negated) for g in found]
            pairs = zip(found, new, strict=True)
            found = [Rows(g.indices, x, g.shape) if type(g) is Rows else x for g, x in pairs]
        return found

    def begin(self, state: MutableMapping[Tensor, Entry]) -> None:
        """Make the state of all parameters, whether they have gradients or not."""
        params = list({id(p): p for p in self.group["params"]}.values())
        self._take_up(params, list(map(local, params)), state)

    def squares(self, grads: Sequence[Tensor | None]) -> Mapping[int, float]:
        """Return the sums of squares of those gradients that an engine has taken."""
        if self.sparse:
            return {}
        return session_of(self.core).engines(self.leaves, self.structure, grads).squares()

    def act(
        self,
        grads: Sequence[Tensor | None],
        norm: Scalar | Pending | None,
        state: MutableMapping[Tensor, Entry],
    ) -> GroupStep:
        """Return the step of the group as an act, which takes it when called."""
        if self.group["differentiable"]:
            name = self.spelling.name
            refuse_undifferentiable(self.core, name)
            refuse_undifferentiable_arrays(name, self.params, grads, self.group)
        if self.counted is not None:
            return CountedStep(self, self.counted, grads, norm)
        if isinstance(norm, Pending):
            assert norm.read is not None
            norm = norm.read()
        return PartStep(self, grads, norm, state)

    def follow(
        self, held: Sequence[Mapping[str, Tensor]], state: MutableMapping[Tensor, Entry]
    ) -> bool:
        """Update torch's state after a step, given the slots before; return whether it changed."""
        slots, counts = self._state().slots, self._counts
        assert counts is not None
        changed = slots is not held
        for p, old, new in zip(self.params, held, slots, strict=True) if changed else ():
            if new is not old:
                shapes = self._shapes[id(p)]
                state[p].update(
                    {self._word(k): shared_out(x, p, shapes[k]) for k, x in new.items()}
                )
        if counts.write():
            put(state, self.params, counts)
            changed = True
        return changed

    @property
    def slots(self) -> Sequence[Mapping[str, Tensor]]:
        """The slots of each parameter."""
        return self._state().slots

    # ---- the state

    def fit(
        self, params: Sequence[Tensor], leaves: Sequence[Tensor], state: Mapping[Tensor, Entry]
    ) -> tuple[Structure, list[dict[str, Tensor]], list[Numbers]]:
        """Check the entries of a state for some parameters of the group.

        Returns
        -------
        structure : Structure
            The paths of the parameters.
        held : list of dict
            For each parameter its slots, empty where it has none yet.
        numbers : list of dict
            For each parameter its counters and scalar state.

        Raises
        ------
        ValueError
            If slots are missing or misshapen, or parameters differ in a counter that their rule has
            for all together.
        """
        paths = self.paths()
        structure = Structure(tuple(paths[id(p)] for p in params), list)
        session = session_of(self.core)
        described = MeshSpread(params).described(checks.describe(leaves, structure))
        layouts = session.assign(described).layouts
        scalars = session.settings.initial_scalars()
        held: list[dict[str, Tensor]] = []
        entries = []
        for p, leaf, layout in zip(params, described, layouts, strict=True):
            assert leaf is not None
            assert layout is not None
            wanted = layout.slots(leaf.dtype)
            entry = self._entry(state.get(p) or {}, (*wanted, *scalars))
            found = {name: x for name, x in entry.items() if name in wanted and x is not None}
            if entry:
                refuse_otherwise_shared_out(found, p, leaf.path)
                whole = layout.shapes(leaf.shape, leaf.dtype)
                shapes = {name: leaf.part(shape) for name, shape in whole.items()}
                faults = faults_of(entry, found, shapes, wanted, scalars, self._word)
                if faults:
                    raise ValueError(f"the state of {leaf} does not fit {self.core!r}. {faults}")
            entries.append(entry)
            held.append(slots_of(found, wanted))
            self._refuse_unshardable(p, leaf.path, layout)
        return structure, held, self._numbers(entries, scalars)

    def numbers(self) -> set[str]:
        """Return the names, in torch's state, of the numbers that lie on the host."""
        scalars = session_of(self.core).settings.initial_scalars()
        return {*COUNTERS, *map(self._word, scalars)}

    def _numbers(self, entries: Sequence[Entry], scalars: Mapping[str, float]) -> list[Numbers]:
        if not self.together():
            return [numbers_of(entry, scalars) for entry in entries]
        known = [numbers_of(entry, scalars) for entry in entries if entry]
        for own in known:
            if own != known[0]:
                raise ValueError(
                    f"{self.spelling.name} counts the steps of a group as a whole; its parameters "
                    f"have {known[0]} and {own}. Give them groups of their own"
                )
        start = known[0] if known else None
        return [numbers_of(entry, scalars, start) for entry in entries]

    def summary(self) -> Summary:
        """Return the state of the group, see `Optimizer.summary`."""
        params = list({id(p): p for p in self.group["params"]}.values())
        structure = Structure(tuple(self.paths()[id(p)] for p in params), list)
        described = checks.describe(list(map(local, params)), structure)
        spread = MeshSpread(params).described(described)
        return summary_of(session_of(self.core), spread, self.spelling.name)

    def together(self) -> bool:
        """Whether the rule measures all parameters of the group together."""
        members = session_of(self.core).settings.members
        return any(member.formula.rule.totals for member in members)

    def paths(self) -> dict[int, str]:
        """Return the name of each parameter by its identity; its number where it has no name."""
        params = self.group["params"]
        names: Iterable[Any] = self.group.get("param_names") or range(len(params))
        return {id(p): str(name) for p, name in zip(params, names, strict=True)}

    def _entry(self, entry: Entry, names: Iterable[str]) -> Entry:
        """Return the state of a parameter under our names; empty before its first step."""
        words = {self._word(name): name for name in names}
        if not begun(entry, words):
            return {}
        found = {words.get(word, word): x for word, x in entry.items()}
        if "step" not in found and "momentum_buffer" in words:
            found["step"] = 1.0  # torch's SGD does not count, but a buffer shows a step
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
        if gpu := bool(leaves) and on_gpu(leaves[0]):
            refuse_unready(self.spelling.name, leaves, NOT_BEGUN if self._capturable else NOT_ASKED)
        self._on_gpu = gpu
        structure, held, numbers = self.fit(params, leaves, state)
        session = session_of(self.core)
        described = MeshSpread(params).described(checks.describe(leaves, structure))
        checks.no_overlap(leaves, structure, _arrays_of(state))
        session.reset()
        layouts = session.assign(described).layouts
        self._shapes = {
            id(p): layout.shapes(leaf.shape, leaf.dtype)
            for p, leaf, layout in zip(params, described, layouts, strict=True)
            if leaf is not None and layout is not None
        }
        session.spread = self._spread(params, layouts)
        new = session.fresh(leaves, described, held)
        session.replace(new)
        self.params, self.leaves, self.structure = params, leaves, structure
        self._plain = all_plain(params)
        self._counts = self._on_device(new, numbers)
        if self._counts is None:
            self._counts = Counts(new, numbers, self._names, self.core.nonfinite == "skip")
        for p, slots in zip(params, new.slots, strict=True):
            entry = state.setdefault(p, {})
            for name, x in slots.items():
                word = self._word(name)
                if word not in entry or local(entry[word]) is not x:
                    entry[word] = shared_out(x, p, self._shapes[id(p)][name])
        put(state, params, self._counts)

    def leave_to_host(self, reason: str) -> None:
        """Have the host compute the numbers of steps from now on, which no graph can hold then."""
        self._unserved = reason
        self.params = []  # counts are elsewhere now

    def _on_device(self, state: State, numbers: Sequence[Numbers]) -> DeviceCounts | None:
        """Return counts that kernels advance; None where the host counts, and note why."""
        if self.counted is not None and self.counted.captured:
            self.kept.append(self.counted)
        self.counted = None
        if not (self._capturable and self._on_gpu):
            return None
        session = session_of(self.core)
        reason = self._unserved
        if session.spread is not None:
            reason = "parameters are sharded over processes"
        if self.group["differentiable"]:
            reason = "differentiable=True records the step"
        if reason is None:
            counts = DeviceCounts(state, numbers, self._names, self.leaves[0].device)
            try:
                self.counted = Counted(session, self.leaves, self.structure, counts.held)
                return counts
            except ValueError as error:
                reason = str(error)
        self._reason = reason
        return None

    def _refuse_unready(self) -> None:
        """Refuse a step that no CUDA graph can hold while one is being captured."""
        if self.counted is not None:
            return
        leaves = self.leaves or list(map(local, self.group["params"][:1]))
        if leaves and on_gpu(leaves[0]):
            reason = self._reason if self._capturable else NOT_ASKED
            refuse_unready(self.spelling.name, leaves[:1], reason)

    def report(self) -> StepReport | None:
        """Return what the last step did; the device is asked where it counts."""
        if self.counted is not None and self.counted.stepped:
            assert isinstance(self._counts, DeviceCounts)
            self._counts.follow()
            session, live = session_of(self.core), {k: x.item() for k, x in self.live.items()}
            session.last = self.counted.report(session.iterations, live)
        return self.core.last_step

    def _spread(
        self, params: Sequence[Tensor], layouts: Sequence[Layout | None]
    ) -> MeshSpread | None:
        """Return how the parameters lie over processes; None where all of them are here."""
        spread = [i for i, p in enumerate(params) if in_parts(p)]
        h = session_of(self.core).settings.whole
        wholes = [i for i in spread if (layout := layouts[i]) and takes_wholes(layout, h)]
        shapes = [self._shapes[id(p)] for p in params]
        return MeshSpread(params, shapes, wholes) if spread else None

    def _holds(self, params: Sequence[Tensor], leaves: Sequence[Tensor]) -> bool:
        """Whether these are the parameters of the last step."""
        known, counts = self.params, self._counts
        if counts is None or counts.state is not session_of(self.core).state:
            return False
        same = self._again and params is self.group["params"]
        if not same and (len(params) != len(known) or not all(map(operator.is_, params, known))):
            return False
        return leaves is params or all(map(operator.is_, leaves, self.leaves))

    def _current(self, state: Mapping[Tensor, Entry]) -> bool:
        """Whether a state holds the tensors of the last step."""
        counts = self._counts
        assert counts is not None
        for i, (p, slots) in enumerate(zip(self.params, self._state().slots, strict=True)):
            entry = state.get(p, {})
            for name, x in slots.items():
                held = entry.get(self._word(name))
                if held is not x and (not is_shared_out(held) or local(held) is not x):
                    return False
            if any(entry.get(name) is not x for name, x in counts.of(i).items()):
                return False
        return True

    def _state(self) -> State:
        state = session_of(self.core).state
        assert state is not None
        return state

    # ---- hyperparameters and refusals

    def _follow(self) -> None:
        """Read what a scheduler or the user wrote into the group."""
        group, seen = self.group, self._seen
        found = list(group.values())
        if len(found) == len(seen):
            if all(map(operator.is_, found, seen)):
                return
            changed = [k for k, a, b in zip(group, found, seen, strict=True) if a is not b]
            if all(map(self._took, changed)):
                self._seen = found
                return
        self._require_spelled()
        if group["capturable"]:
            self.live = live_numbers(self.spelling, group)
            group = with_known(self.spelling, group, self.live, self._values)
        if bool(group["capturable"]) is not self._capturable:
            self._capturable, self.params = bool(group["capturable"]), []
        values = self.spelling.plain(group)
        # An object that is written into may have another value next time.
        written = [k for k, v in group.items() if k not in _LISTS and _may_be_written(v)]
        self._seen = [] if written else found
        for name, value in values.items():
            if value != self._values[name]:
                self._set(name, value)

    def _took(self, key: str) -> bool:
        """Adopt one value, if it is a plain number that stands for a single hyperparameter."""
        names, value = self.spelling.keys.get(key, ()), self.group[key]
        if len(names) != 1 or type(value) is not float or key in _DECIDING:
            return False
        self._set(names[0], value)
        return True

    def _set(self, name: str, value: Any) -> None:
        setattr(self.core, name, value)
        # Whether the device can compute the numbers depends on which there are.
        other = self._capturable and None in (value, self._values[name])
        other = other or not self.core.hyperparameters[name].numeric
        self._values[name] = value
        if name in TOGETHER:
            self.measuring = _together(self.core._hyper)
        if name in _DECIDING or other:
            self.params = []  # the entries of the state may differ now
            self._names = self.spelling.state_names(self.core.preset)

    def _require_spelled(self) -> None:
        if self.group.keys() != self._words:
            self.spelling.require_spelled(self.group)
            self._words = set(self.group)

    def _refuse_unshardable(self, p: Tensor, path: str, layout: Layout) -> None:
        if not in_parts(p):
            return
        if self.core.agc is not None and layout.rule.totals:
            raise ValueError(
                f"{self.spelling.name} with agc measures gradients that were clipped as wholes; of "
                f"parameter {path!r} a process holds only a part ({p.placements}). Use clipnorm, "
                "or parameters that are replicated, as under DDP"
            )
        if self.core.state_dtype == "int8":
            raise ValueError(
                f'{self.spelling.name}: state_dtype="int8" keeps blocks of numbers, which the '
                f"parts of parameter {path!r} ({p.placements}) cut through; use "
                'state_dtype="bfloat16"'
            )


_LISTS = ("params", "param_names")

TOGETHER = ("clipnorm", "nonfinite", "skip_spikes", "measure", "skip_loss_spikes")
"""Settings of a step as a whole; for all but the last the norm over all groups is taken."""

_together = operator.itemgetter(*TOGETHER)


def _arrays_of(state: Mapping[Tensor, Entry]) -> list[Entry]:
    """Return the state's own arrays, of all groups; counts, which may be shared, are left out."""
    return [
        {word: local(x) for word, x in entry.items() if isinstance(x, torch.Tensor) and x.ndim}
        for entry in state.values()
    ]


_DECIDING = frozenset({"momentum", "agc", "skip_spikes", "skip_loss_spikes"})
"""Numbers that decide what the state holds, or whether parts are brought together."""


def _may_be_written(value: Any) -> bool:
    row = value if isinstance(value, tuple) else (value,)
    return any(isinstance(x, torch.Tensor | list) for x in row)


class CountedStep:
    """The step of a group whose count is on its device, as an act.

    Parameters
    ----------
    part : Part
        The group.
    counted : Counted
        Its steps.
    grads : sequence of Tensor or None
        The gradients.
    norm : Pending, optional
        The norm of the gradients of all groups.
    """

    changed = False

    def __init__(
        self,
        part: Part,
        counted: Counted,
        grads: Sequence[Tensor | None],
        norm: Any,
    ) -> None:
        self._part, self._counted, self._grads, self._norm = part, counted, grads, norm
        self._taken = False

    def __call__(self) -> None:
        """Launch the step."""
        if not self._taken:
            self._counted.step(self._grads, self._part.live, self._norm, self._note)

    def _note(self) -> None:
        self._taken = True


class GroupStep(Protocol):
    """The step of a group; `changed` tells afterwards whether the state has other tensors."""

    changed: bool

    def __call__(self) -> None:
        """Take the step, or what is left of it."""


class PartStep:
    """The step of one parameter group, as an act, see `arrayoptim.engines.steps`.

    Parameters
    ----------
    part : Part
        The group, which has looked at the gradients.
    grads : sequence of Tensor or None
        The gradients.
    norm : scalar or None
        The norm of the gradients of all groups.
    state : dict
        The state that torch keeps.
    """

    def __init__(
        self,
        part: Part,
        grads: Sequence[Tensor | None],
        norm: Scalar | None,
        state: MutableMapping[Tensor, Entry],
    ) -> None:
        self._part, self._grads, self._norm, self._state = part, grads, norm, state
        self._before, self._taken, self.changed = part.slots, False, False

    def __call__(self) -> None:
        """Step the parameters, and update torch's state."""
        part, session = self._part, session_of(self._part.core)
        if not self._taken and part.group["differentiable"]:
            with session.lock:
                step_recorded(session, self._grads, part.leaves)
                self._taken = True
        elif not self._taken:
            # Only beside a group that is recorded.
            quiet = torch.no_grad() if torch.is_grad_enabled() else nullcontext()
            with session.lock, quiet:
                session.take(
                    self._grads,
                    part.leaves,
                    part.structure,
                    norm=self._norm,
                    done=self._note,
                    sparse=part.sparse,
                )
        self.changed = part.follow(self._before, self._state) or self.changed

    def _note(self, leaves: Sequence[Tensor | None]) -> None:
        self._taken = True
