"""The GPU engine: one fused kernel over all CuPy arrays or torch CUDA tensors with the same dtypes.

The kernel is generated from the very functions that the array engine calls, and compiled to round
as the CPU does. A step is one launch per combination of dtypes on a device, preceded by one that
takes the norm of the gradients if it is needed. Nothing syncs if all gradients are on one device
and share a rule; otherwise the host reads the norm of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from ..._typing import Array
from ...arrays.libraries import COMPLEX, COMPUTE, backend_of
from ...arrays.memory import Stretches
from ...arrays.trees import named
from ...numerics.slots import EXPONENTS
from ...rules.rule import Rule
from ..passes import passes
from ..resident import Resident
from ..rowmajor import row_major
from ..steps import Computed
from .arrays import Library, dense, library_of
from .coded import MOST_CODED
from .device import Table
from .measure import measure_program, quantities
from .place import Graph
from .plan import DevicePlan
from .portions import Portion
from .printer import UnprintableError
from .program import stages_of
from .sums import MOST
from .sweep import sweep_program
from .tables import same_order

__all__ = ["Plan", "refusal", "unprintable"]


def refusal(rule: Rule, param: Array, slots: Mapping[str, Array]) -> str | None:
    """Return why the engine does not serve a parameter; None if it does.

    Parameters
    ----------
    rule : Rule
        The update rule.
    param : array
        The parameter.
    slots : mapping of str to array
        Its slots.

    Returns
    -------
    str or None
        The reason; None if the engine serves it.
    """
    library = library_of(param)
    if library is None:
        return f"a {type(param).__qualname__} is neither a CuPy array nor a torch tensor on a GPU"
    reason = unprintable(rule) or library.refusal(param)
    if reason is None and backend_of(param).dtype(param) not in COMPUTE:
        reason = f"there is no arithmetic for {backend_of(param).dtype(param)}"
    if reason is None and not dense(param.shape, library.strides(param)):
        reason = "its elements are not contiguous"
    if reason is None and rule.kind == "matrix":
        reason = _matrix_refusal(library, rule, param, slots)
    for name, array in slots.items():
        if reason is None and name not in rule.apart:
            reason = _slot_refusal(library, name, array, param)
    if reason is None and sum(name.endswith(EXPONENTS) for name in slots) > MOST_CODED:
        reason = f"the rule {rule.name} has more than {MOST_CODED} slots in 8-bit codes"
    return reason


@cache
def unprintable(rule: Rule) -> str | None:
    """Return why a rule has no kernel; None if it has one."""
    if rule.kind == "matrix":
        known = passes(rule) is not None
        return None if known else f"the rule {rule.name} is no loop over elements"
    if quantities(rule) > MOST:
        return f"the rule {rule.name} measures more than {MOST} quantities"
    try:
        stages, streams = stages_of(rule.measured, ()), [("g", "float32"), ("p", "float32")]
        sweep_program(rule, stages, streams, "float32")
        if quantities(rule):
            measure_program(rule, stages, streams, "float32")
    except (UnprintableError, OSError) as error:
        return f"the rule {rule.name} cannot be printed as a kernel: {error}"
    return None


def _matrix_refusal(
    library: Library, rule: Rule, param: Array, slots: Mapping[str, Array]
) -> str | None:
    """Return why a parameter cannot be stepped by a rule for matrices; None if it can."""
    dtype = backend_of(param).dtype(param)
    if dtype in COMPLEX:
        return "a matrix of complex numbers has no rows and columns of numbers"
    if not row_major(param.shape, library.strides(param)):
        return "its rows are not contiguous"
    wanted, kind = rule.slot_shapes(tuple(param.shape)), COMPUTE[dtype]
    for name in rule.slots:
        array, lines = slots[name], name in rule.apart
        if library_of(array) is not library or library.number(array) != library.number(param):
            return f"slot {name!r}: it is not on the device of the parameter"
        found = backend_of(array).dtype(array)
        if not lines and found in ("bfloat16", "uint8"):
            return f"slot {name!r}: totals along rows and columns want all of its bits"
        good = tuple(array.shape) == wanted[name] and found == kind
        reason = library.refusal(array)
        if (
            lines
            and reason is None
            and not (good and row_major(array.shape, library.strides(array)))
        ):
            reason = f"it is not an array of {kind} of shape {wanted[name]}"
        if lines and reason is not None:
            return f"slot {name!r}: {reason}"
    return None


def _slot_refusal(library: Library, name: str, array: Array, param: Array) -> str | None:
    if library_of(array) is not library or library.number(array) != library.number(param):
        return f"slot {name!r}: it is not on the device of the parameter"
    kind = backend_of(array).dtype(array)
    if kind not in {*COMPUTE, "uint8", "int16"}:
        return f"slot {name!r}: there is no arithmetic for {kind}"
    reason = library.refusal(array)
    if reason is None and kind != "int16" and not same_order(library, array, param):
        reason = "its elements are not contiguous in the parameter's memory order"
    return reason and f"slot {name!r}: {reason}"


class Plan(DevicePlan[Portion]):
    """Steps for one list of arrays, with their addresses in device tables.

    Parameters
    ----------
    rule : Rule
        The update rule.
    params : sequence of array
        Parameters that `refusal` accepts, no two of which share memory.
    slots : sequence of mapping of str to array
        The slots of each by name: those of the rule, ``master`` or ``compensation`` where a 16-bit
        parameter has one, ``average``. They are updated in place.
    paths : sequence of str, optional
        Names of the parameters in messages.
    occupied : Stretches, optional
        The memory that the whole step writes; this plan adds its own to it. Gradients that lie
        in it are copied.
    places : sequence of int, optional
        Indices of the parameters in the tree, which seed their random bits; by default 0, 1, ....
    graph : {"", "sent", "alone"}
        Whether steps are for a CUDA graph, which has one step of the plan: what its kernels read is
        ``"sent"`` by `renew` before each replay, or the graph is self-contained, ``"alone"``.
    """

    def __init__(
        self,
        rule: Rule,
        params: Sequence[Array],
        slots: Sequence[Mapping[str, Array]],
        *,
        paths: Sequence[str] | None = None,
        occupied: Stretches | None = None,
        places: Sequence[int] | None = None,
        graph: Graph = "",
    ) -> None:
        names = [str(k) for k in range(len(params))] if paths is None else paths
        stretches = Stretches() if occupied is None else occupied

        tree = range(len(params)) if places is None else places

        def made(where: tuple[Library, int], here: list[int]) -> Portion:
            mine, held = [params[k] for k in here], [slots[k] for k in here]
            ordinals = [tree[k] for k in here]
            return Portion(rule, where, here, mine, held, stretches, ordinals, graph)

        def fault(k: int) -> str:
            return f"{named(names[k])}: {refusal(rule, params[k], slots[k])}"

        super().__init__(params, made, fault)

    def norm(self, grads: Sequence[Array | None]) -> Table | None:
        """Compute the Euclidean norms of the gradients on the device.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients.

        Returns
        -------
        Table or None
            The norms in device memory, see `Place.norm`; None if there is more than one device.
        """
        if len(self._parts) != 1:
            return None
        ((portion, mine),) = self._shared(grads)
        return portion.norm(mine)

    def totals(
        self, grads: Sequence[Array | None], values: Mapping[str, Mapping[str, Any]]
    ) -> list[list[float]]:
        """Compute the totals of each tensor; syncs with the devices.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients.
        values : mapping of str to mapping
            As for `prepare`.

        Returns
        -------
        list of list of float
            For each parameter the totals of `Rule.norms` and `Rule.sums`; 0 without a gradient.
        """
        found: list[list[float]] = [[]] * self._count
        for each, mine in self._shared(grads):
            for k, row in zip(each.places, each.totals(mine, self._own(each, values)), strict=True):
                found[k] = row
        return found

    @property
    def resides(self) -> bool:
        """Whether totals over all tensors can stay on the device, as there is only one."""
        return len(self._parts) == 1

    def resident(self, scalars: Mapping[str, Any]) -> Resident:
        """Return the scalar state after a step; the device holds the values of its symbols."""
        (each,) = self._parts
        return Resident(scalars, each, each.read_state, each.state_views)

    def renew(
        self,
        values: Mapping[str, Mapping[str, Any]],
        seed: int | None = None,
        computed: Computed | None = None,
    ) -> None:
        """Write the next step's scalars where the kernels of a CUDA graph read them.

        Parameters
        ----------
        values, seed, computed
            As for `prepare`.

        Raises
        ------
        ValueError
            If their names are not those of the captured step.
        """
        for each in self._parts:
            each.renew(self._own(each, values), seed, computed)

    def read(self, norm: Table) -> float:
        """Return the norm that `norm` left on the device last; syncs."""
        return self._parts[0].read(norm)

    def read_each(self, norms: Table) -> list[float]:
        """Return the norm of each gradient that `norm` left on the device last; syncs."""
        return self._parts[0].read_each(norms)
