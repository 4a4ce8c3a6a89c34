"""One parameter group: its optimizer, and its state in torch's form."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from ..._typing import Scalar
from ...arrays.rows import Rows, as_rows, stored
from ...engines import Engines
from ...gradients import Pending
from ...step.counted import Counted
from .capturing import Capturing
from .differentiable import (
    refuse_undifferentiable,
    refuse_undifferentiable_arrays,
    step_recorded,
)
from .group_settings import GroupSettings
from .group_state import GroupState
from .shards import (
    PLAIN,
    Tensor,
    all_plain,
    is_shared_out,
    local,
    refuse_misplaced,
)
from .spelling import Spelling
from .state_entries import Entry

DENSIFYING = {"SGD", "Adagrad"}
"""Classes that take sparse gradients, as torch's do: missing entries are skipped or count as 0."""


def _there(g: Tensor | None) -> bool:
    return g is not None


_grad, _layout = operator.attrgetter("grad"), operator.attrgetter("layout")
_NONE = type(None)


def _all_strided(grads: Iterable[Tensor | None]) -> bool:
    return {*map(_layout, filter(_there, grads))} <= {torch.strided}


class Part:
    """The optimizer of one parameter group.

    Parameters
    ----------
    spelling : Spelling
        How the hyperparameters are named in the group.
    group : dict
        The parameter group, which schedulers write into.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter has the wrong type or lies outside its interval.
    """

    _usual = torch.strided
    _never: str | None = None
    """Why no CUDA graph holds steps of groups of this kind."""

    def __init__(self, spelling: Spelling, group: dict[str, Any]) -> None:
        self.settings, self.group = GroupSettings(spelling, group), group
        self.core = self.settings.core
        self.capturing = Capturing(self.settings, self._never)
        self.held = GroupState(self.settings, self.capturing)
        self.session = self.held.session
        self.sparse = False
        self._looked: tuple[list[Tensor | None] | None, Engines | None] = None, None
        self._again = self._missing = self._dense = False

    def check(self) -> list[Tensor | None]:
        """Read the settings in the group, and return the gradients, checked.

        Raises
        ------
        RuntimeError
            If a gradient is sparse.
        TypeError, ValueError
            If a hyperparameter is invalid, or a gradient is not sharded like its parameter.
        """
        if self.capturing.on_gpu or not self.held.params:
            leaves = self.held.leaves or list(map(local, self.group["params"][:1]))
            if self.capturing.stands_aside(leaves):
                self._again, self._missing = False, True
                return [None] * len(self.group["params"])
        if self.settings.follow():
            self.held.params = []
        params = self.group["params"]
        held = self.held
        self._again = held.has(params)
        # Each tensor is asked once a step: `gathered` goes on from here.
        found = list(map(_grad, params))
        kinds = {*map(type, found)}
        self._missing = _NONE in kinds
        if self._again and held.plain and self._usual is torch.strided:
            engines = self.session.known(held.leaves, held.structure, found)
            if engines is not None:
                self._looked, self._dense = (found, engines), True
                return found
        if self.group["fused"] and any(g.is_meta for g in filter(_there, found)):
            raise RuntimeError(
                "`fused=True` requires all the params to be floating point Tensors of supported "
                f"devices: {self.settings.name} found some on meta, where they have no values"
            )
        layouts = {*map(_layout, filter(_there, found) if self._missing else found)}
        self._dense = layouts <= {torch.strided}
        if layouts <= {self._usual} and kinds <= PLAIN and self._unsharded(params):
            return found
        for p, g in zip(params, found, strict=True):
            if g is not None:
                self._require_layout(g, p)
                if is_shared_out(p) or is_shared_out(g):
                    refuse_misplaced(g, p, self.settings.path(p))
        return found

    def _unsharded(self, params: Sequence[Tensor]) -> bool:
        if self._again and self.held.plain:
            return True
        return all_plain(params) or not any(map(is_shared_out, params))

    def _require_layout(self, g: Tensor, p: Tensor) -> None:
        """Refuse a sparse gradient if its missing entries cannot count as zeros."""
        if g.layout is torch.strided:
            return
        name = self.settings.name
        if self.group["sparse"] is not None and g.layout is torch.sparse_coo:
            return
        if name not in DENSIFYING or g.layout is not torch.sparse_coo:
            raise RuntimeError(
                f"{name} does not support sparse gradients; found one of parameter "
                f"{self.settings.path(p)!r}; SparseAdam, SGD and Adagrad take them, {name} with "
                'sparse="exact" or "lazy", and embeddings give dense ones with sparse=False'
            )
        if name == "Adagrad" and self.group["weight_decay"]:
            raise RuntimeError(
                "Adagrad: weight_decay option is not compatible with sparse gradients, as of "
                f"parameter {self.settings.path(p)!r}"
            )

    def prepare(self, grads: Sequence[Tensor | None]) -> None:
        """Let engines check parameters and gradients, before anything changes."""
        if self.sparse:
            return  # which rows there are is new with each step
        if self.capturing.counted is not None:
            self.capturing.counted.check(grads)
            return
        self._engines(grads)

    def _engines(self, grads: Sequence[Tensor | None]) -> Engines:
        """Return the engines of a step, which have looked at the gradients."""
        found = self.looked(grads)
        return found or self.session.engines(self.held.leaves, self.held.structure, grads)

    def looked(self, grads: Sequence[Tensor | None], last: bool = False) -> Engines | None:
        """Return the engines if they have looked at these gradients; `last`: forget them then."""
        found, engines = self._looked
        if last:
            self._looked = None, None
        return engines if grads is found else None

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
        """Prepare a step, and return the gradients; None if the group has none.

        Parameters
        ----------
        found : list of Tensor or None
            What `check` has returned.
        state : mapping
            Torch's state.
        same : bool
            Whether its content is the same as after the last step.
        turn : int
            Only parameters that occur more often than that are stepped.

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
        held, known = self.held, self._again and params is self.group["params"]
        if not (held.holds(params, leaves, known) and (same or held.current(state))):
            self._take_up(list(params), list(leaves), state)
        held.counts.read()
        if missing and not self.settings.together():
            held.counts.part()
        self.sparse = not (dense or _all_strided(found))
        if self.sparse and self.capturing.counted is not None:
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

    def _take_up(
        self, params: list[Tensor], leaves: list[Tensor], state: MutableMapping[Tensor, Entry]
    ) -> None:
        self._looked = None, None  # new state has other engines
        self.held.take_up(params, leaves, state)

    def squares(self, grads: Sequence[Tensor | None]) -> Mapping[int, float]:
        """Return the sums of squares of gradients that an engine has computed already."""
        if self.sparse:
            return {}
        return self._engines(grads).squares()

    def act(
        self,
        grads: Sequence[Tensor | None],
        norm: Scalar | Pending | None,
        state: MutableMapping[Tensor, Entry],
    ) -> GroupStep | CountedStep:
        """Return the step of the group as an act, which takes it when called."""
        if self.group["differentiable"]:
            name = self.settings.name
            refuse_undifferentiable(self.core, name)
            refuse_undifferentiable_arrays(name, self.held.params, grads, self.group)
        if self.capturing.counted is not None:
            return CountedStep(self, self.capturing.counted, grads, norm)
        return GroupStep(self, grads, norm, state)

    def leave_to_host(self, reason: str) -> None:
        """Have the host compute the numbers of steps from now on, which no graph can hold then."""
        self.capturing.leave_to_host(reason)
        self.held.params, self._again = [], False  # counts are elsewhere now


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
            self._counted.step(self._grads, self._part.settings.live, self._norm, self._note)

    def _note(self) -> None:
        self._taken = True


class GroupStep:
    """The step of one parameter group, as an act, see `arrayoptim.engines.steps`.

    Parameters
    ----------
    part : Part
        The group, which has prepared the step.
    grads : sequence of Tensor or None
        The gradients.
    norm : scalar, Pending or None
        The norm of the gradients of all groups; None if the step takes it itself.
    state : dict
        The state that torch keeps.
    """

    def __init__(
        self,
        part: Part,
        grads: Sequence[Tensor | None],
        norm: Scalar | Pending | None,
        state: MutableMapping[Tensor, Entry],
    ) -> None:
        self._part, self._grads, self._norm, self._state = part, grads, norm, state
        self._before, self._taken, self.changed = part.held.slots, False, False

    def __call__(self) -> None:
        """Step the parameters, and update torch's state."""
        part, session = self._part, self._part.session
        if not self._taken and part.group["differentiable"]:
            with session.lock:
                step_recorded(session, self._grads, part.held.leaves)
                self._taken = True
        elif not self._taken:
            # Grad mode is on only if another group's step is recorded.
            quiet = torch.no_grad() if torch.is_grad_enabled() else nullcontext()
            with session.lock, quiet:
                session.take(
                    self._grads,
                    part.held.leaves,
                    part.held.structure,
                    norm=self._norm,
                    done=self._note,
                    sparse=part.sparse,
                    engines=part.looked(self._grads, last=True),
                )
        self.changed = part.held.follow(self._before, self._state) or self.changed

    def _note(self, leaves: Sequence[Tensor | None]) -> None:
        self._taken = True
