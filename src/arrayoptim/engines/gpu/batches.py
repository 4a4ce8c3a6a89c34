"""Tensors with the same dtypes on one device, which one kernel launch steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._typing import Array
from ...arrays.backend import COMPLEX, COMPUTE, reals
from ...arrays.identity import same_objects
from ...arrays.libraries import backend_of
from ...gradients import Pending
from ...numerics.formulas import Number
from ...numerics.rounding import NOISE
from ...numerics.slots import EXPONENTS
from ...rules.nonnegative import nonnegative_slots
from ...rules.rule import Rule
from ...rules.stages import UNITS
from ..steps import Counting
from .arrays import Library
from .coded import coded_program
from .counter import Counter
from .derived import Target
from .device import Device, Launch, Launches, Table, launches, start
from .measure import measure_program, quantities
from .mirror import Mirror
from .norm import FIRST_NORM
from .place import Graph
from .prelude import CHUNK
from .program import CODES, SEED, Program, stages_of
from .scalars import Scalars, seeded, sort
from .sweep import sweep_program
from .tables import Numbers, Totals, addresses, chunks, element_count, same_order
from .unit_batches import Units, unit_stage

__all__ = ["Batch", "labelled", "program_of"]


def program_of(
    rule: Rule,
    dtypes: Mapping[str, str],
    given: Sequence[str],
    gradients: str,
    *,
    measures: bool = False,
) -> Program:
    """Return the kernel of a step.

    Parameters
    ----------
    rule : Rule
        The update rule.
    dtypes : mapping of str to str
        The dtype of the parameters as ``p``, and of each slot, in the order of the pointer table.
    given : sequence of str
        Names of the per-step scalars that the step has.
    gradients : str
        Dtype of the gradients.
    measures : bool
        If true, the kernel that takes the rule's totals before the sweep.

    Returns
    -------
    Program
        The kernel.
    """
    stages, streams = labelled(rule, dtypes, given, gradients)
    compute, kinds = COMPUTE[dtypes["p"]], dict(streams)
    small = {kinds[f"s{k}"] for k in range(len(rule.slots))} & {*CODES, "bfloat16"}
    chance = bool(small) and SEED[0] in given
    if measures:
        return measure_program(rule, stages, streams, compute, chance)
    if chance or small & CODES:
        return coded_program(rule, stages, streams, compute, chance)
    return sweep_program(rule, stages, streams, compute)


def labelled(
    rule: Rule, dtypes: Mapping[str, str], given: Sequence[str], gradients: str
) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Return the stages of a step, and its streams as `sweep_program` takes them."""
    labels = {name: f"s{k}" for k, name in enumerate(rule.slots)}
    labels |= {name + EXPONENTS: label + EXPONENTS for name, label in labels.items()}
    kinds = {name: reals(dtype) for name, dtype in dtypes.items()}
    for name, plain in zip(rule.slots, nonnegative_slots(rule), strict=True):
        if kinds[name] == "uint8" and not plain:
            kinds[name] = "int8"
    streams = [("g", reals(gradients))]
    streams += [(labels.get(name, name), kind) for name, kind in kinds.items()]
    return stages_of((*given, *rule.measured), tuple(dtypes)), streams


_NOWHERE = 0, 0
"""The addresses of norms that no clip factor waits for."""


class Batch:
    """Some tensors of a device, and the device tables with their addresses.

    Parameters
    ----------
    rule : Rule
        The update rule.
    dtypes : mapping of str to str
        The dtype of the parameters as ``p``, and of each slot.
    places : sequence of int
        Indices of the parameters among those of the device.
    params : sequence of array
        The parameters.
    slots : sequence of mapping of str to array
        The slots of each parameter.
    where : tuple of Library and Device
        The library and the device of the arrays.
    ordinals : sequence of int
        Indices of the parameters in the tree, which seed their random bits.
    graph : {"", "sent", "alone"}
        Whether steps are for a CUDA graph, whose kernels read all per-step scalars from memory.
    """

    def __init__(
        self,
        rule: Rule,
        dtypes: Mapping[str, str],
        places: Sequence[int],
        params: Sequence[Array],
        slots: Sequence[Mapping[str, Array]],
        where: tuple[Library, Device],
        ordinals: Sequence[int],
        graph: Graph = "",
    ) -> None:
        self._rule, self._dtypes, self.places, self._params = rule, dtypes, places, params
        self._library, self._device = where
        self._orders = [(tuple(p.shape), self._library.strides(p)) for p in params]
        self.kind, self.compute = dtypes["p"], COMPUTE[dtypes["p"]]
        # Keeps the slots alive, as the table has their addresses.
        self._held = [{name: held[name] for name in dtypes if name != "p"} for held in slots]
        columns = [params, *([held[n] for held in self._held] for n in dtypes if n != "p")]
        table = np.stack([addresses(self._library, column) for column in columns], axis=1)
        sizes = [element_count(p) for p in params]
        tables = *self._cut(sizes), np.array(places, np.int32), table
        self._tables = [self._device.table(each) for each in tables]
        self._row, self._graph = Mirror(self._device), graph
        self._ordinals = np.array(ordinals, np.int32)
        self._counter = Counter(self._library, self._device, ordinals)
        self._random: list[Table] = []
        self._key: Any = None
        self._programs: dict[Any, tuple[Program, Any]] = {}
        self._elements = np.array(sizes, np.int64)
        self._measures: dict[Any, tuple[Program, Launch]] = {}
        self._totals: Totals | None = None
        self._units: Units | None = None
        self._told: tuple[tuple[Any, ...], list[Target]] = (), []
        self._unmeasured = dict.fromkeys(rule.measured, 0.0)

    def _cut(self, sizes: Sequence[int]) -> tuple[Numbers, Numbers]:
        """Return the tables of chunks and sizes."""
        cut = chunks(sizes, CHUNK)
        self._blocks = len(cut)
        return cut, np.array(sizes, np.int64)

    def _compiled(self, key: tuple[tuple[str, ...], str]) -> tuple[Program, Any]:
        """Return a program that lists the per-step scalars, and the kernels of the step."""
        program = program_of(self._rule, self._dtypes, *key)
        return program, self._device.kernel(program)

    def _launched(self, kernels: Any, arguments: tuple[Any, ...]) -> list[Launches]:
        """Return the launches; kernels take the tables of `_cut`, then the arguments."""
        return [launches(kernels, self._blocks, arguments)]

    def settle(self, grads: list[Array | None]) -> None:
        """Copy the gradients of the batch that a kernel cannot read directly.

        Parameters
        ----------
        grads : list of array or None
            The gradients of all parameters of the device; copies replace them in this list.
        """
        found = [backend_of(g).dtype(g) for k in self.places if (g := grads[k]) is not None]
        kinds, own = set(found), self._dtypes["p"]
        real = own not in COMPLEX
        # All gradients that a launch reads have one dtype.
        kind = own if not (real and kinds) else kinds.pop() if len(kinds) == 1 else COMPUTE[own]
        self.kind = kind
        for k, p, order in zip(self.places, self._params, self._orders, strict=True):
            g = grads[k]
            if g is None:
                continue
            # The fast path: most gradients have the strides of their parameter, which is dense.
            ordered = (tuple(g.shape), self._library.strides(g)) == order
            good = backend_of(g).dtype(g) == kind and self._library.refusal(g) is None
            if not (good and (ordered or same_order(self._library, g, p))):
                grads[k] = self._library.conform(g, p, kind)

    def prepare(
        self,
        values: Mapping[str, Any],
        gradients: int,
        seed: int | None = None,
        counting: Counting | None = None,
        *,
        later: bool = False,
        measured: bool = False,
    ) -> Prepared:
        """Prepare a step.

        Parameters
        ----------
        values : mapping of str to object
            The per-step scalars by name: one, or an array with one for each parameter of the
            device. The clip factor may be a `Pending` one.
        gradients : int
            Device address of the table of gradients.
        seed : int, optional
            The step's seed if slots are rounded stochastically.
        counting : Counting, optional
            Given if the per-step scalars are formulas that the device computes.
        later : bool
            Whether a graph is being captured, so that nothing can be compiled or copied now.
        measured : bool
            Whether the device needs the totals of each tensor, to compute scalars from them.

        Returns
        -------
        Prepared
            The launches of the step.

        Raises
        ------
        RuntimeError
            If the kernel cannot be compiled on this machine, or not during a capture.
        """
        values = seeded(values, seed)
        stage = None if UNITS.keys().isdisjoint(values) else unit_stage(values)
        key = self._key = tuple(values), self.compute if stage else self.kind
        if key not in self._programs:
            if later:
                raise RuntimeError(
                    f"no kernel is ready for gradients of {self.kind} and the numbers "
                    f"{', '.join(values)}: let capture see the hyperparameters that the step will "
                    "have, and gradients be of their parameter's data type"
                )
            self._programs[key] = self._compiled(key)
        program, launch = self._programs[key]
        scalars = self._sorted(program, values, counting is not None)
        cut, sizes, leaves, pointers = (each.address for each in self._tables)
        first: list[Launches] = []
        numbers = [0.0] * len(scalars.columns)
        if counting is not None:
            table, launch_counter = self._counter.launched(
                scalars.columns, counting, (leaves, gradients), later
            )
            first.append(launch_counter)
        elif self._graph or scalars.unknown or self._each(scalars):
            table = self._send(scalars, later)
        else:
            table, numbers = 0, list(map(float, scalars.columns.values()))
        norms = _NOWHERE if scalars.pending is None else _places(scalars.pending)
        random = self._chance() if SEED[0] in program.numbers else ()
        given = leaves, pointers, gradients, *norms, table
        if stage is not None:
            clipped, limits = self._limited(stage, program.numbers, given, numbers, later)
            first += limits
            given = leaves, pointers, clipped, *norms, table
        arguments = (cut, sizes, *given, *random, *numbers)
        if self._rule.ratio or measured:
            first.append(self._measure(key, given))
        targets = self._targets(table, scalars)
        return Prepared(first, self._launched(launch, arguments), targets)

    def _limited(
        self,
        stage: str,
        names: tuple[str, ...],
        given: tuple[int, ...],
        numbers: Sequence[float],
        later: bool = False,
    ) -> tuple[int, list[Launches]]:
        """Prepare the launches that clip units; return where their results are, see `Units`."""
        if self._units is None:
            columns, where = len(self._dtypes), (self._library, self._device)
            self._units = Units(*where, self._params, self.places, columns)
        return self._units.launched(stage, names, self.kind, given, numbers, later)

    def _chance(self) -> tuple[int, ...]:
        """Return the addresses of the tables from which, with the seed, random bits are drawn."""
        if not self._random:
            self._random = [self._device.table(each) for each in (self._ordinals, NOISE)]
        return tuple(each.address for each in self._random)

    def wrote(self) -> None:
        """Tell the library that the parameters were modified in place."""
        self._library.wrote(self._params)

    def renew(self, values: Mapping[str, Any], seed: int | None = None) -> list[Target]:
        """Write the next step's scalars where the captured kernel reads them.

        Parameters
        ----------
        values, seed
            As for `prepare`.

        Returns
        -------
        list of Target
            The scalars that the device computes.

        Raises
        ------
        ValueError
            If their names are not those that the kernel takes.
        """
        values, (names, _) = seeded(values, seed), self._key
        if tuple(values) != names:
            raise ValueError(
                f"the CUDA graph has a step with the numbers {', '.join(names)}; the present "
                f"hyperparameters ask for {', '.join(values)}: capture it again"
            )
        program, _ = self._programs[self._key]
        scalars = self._sorted(program, values)
        return self._targets(self._send(scalars), scalars)

    def _sorted(
        self, program: Program, values: Mapping[str, Any], counted: bool = False
    ) -> Scalars:
        """Return the scalars that a kernel takes; see `sort`."""
        if self._unmeasured:
            values = {**values, **self._unmeasured}
        return sort(values, program.numbers, self.places, counted)

    def _targets(self, table: int, scalars: Scalars) -> list[Target]:
        """Return the addresses at which the device writes the symbols of the scalar table."""
        if not scalars.unknown:
            return []
        each, names = self._each(scalars), list(scalars.columns)
        key = table, each, *names, *scalars.unknown.values()
        if same_objects(key, self._told[0]):
            return self._told[1]
        found: list[Target] = []
        for name, column in scalars.unknown.items():
            first = table + 8 * (1 + names.index(name))
            at = first + 8 * len(names) * np.arange(len(self.places) if each else 1)
            if not isinstance(column, np.ndarray):
                found.append((at, column))
                continue
            symbols = {x.key: x for x in column if type(x) is Number}
            found += [(at[[x is symbol for x in column]], symbol) for symbol in symbols.values()]
        self._told = key, found
        return found

    def _each(self, scalars: Scalars) -> bool:
        """Whether some scalars differ between tensors, as given or derived from totals."""
        return scalars.each or self._rule.ratio is not None

    def _send(self, scalars: Scalars, later: bool = False) -> int:
        """Write scalars where a kernel reads them: one row for all tensors, or one for each."""
        columns, count = scalars.columns, len(self.places)
        if self._each(scalars):
            full = [np.broadcast_to(column, count) for column in columns.values()]
            head = np.array([len(columns)])
            rows = np.concatenate([head, np.stack(full, axis=1).reshape(-1)]).astype(np.float64)
        else:
            rows = np.array([0.0, *map(float, columns.values())])
        # Groups may diverge later, and a graph keeps reading the table that it was captured with.
        room = 1 + count * len(columns) if self._graph else 0
        return self._row.address(rows, later=later, room=room)

    def totals(self, values: Mapping[str, Any], gradients: int) -> list[list[float]]:
        """Compute the totals of each tensor; syncs with the device.

        Parameters
        ----------
        values, gradients
            As for `prepare`.

        Returns
        -------
        list of list of float
            For each tensor its norms and sums, in the order of `Rule.totals`.
        """
        values = seeded(values, None)
        stage, count = unit_stage(values), len(self.places)
        key = tuple(values), self.compute if stage else self.kind
        program, _ = self._measuring(key)
        scalars = self._sorted(program, values)
        _, _, leaves, pointers = (each.address for each in self._tables)
        table = self._send(scalars)
        at = _NOWHERE if scalars.pending is None else _places(scalars.pending)
        given = leaves, pointers, gradients, *at, table
        if stage is not None:
            zeros = [0.0] * len(scalars.columns)
            clipped, limits = self._limited(stage, program.numbers, given, zeros)
            for each in limits:
                start(each)
            given = leaves, pointers, clipped, *at, table
        start(self._measure(key, given))
        found = self._device.read(self._measured().sums).reshape(-1, count)
        norms = len(self._rule.norms)
        rows: list[list[float]] = np.concatenate([np.sqrt(found[:norms]), found[norms:]]).T.tolist()
        return rows

    def _measure(self, key: tuple[Any, str], addresses: tuple[int, ...]) -> Launches:
        """Prepare the pass that takes totals and writes each tensor's own scalars."""
        _, launch = self._measuring(key)
        totals = self._measured()
        arguments = (*totals.inputs, *addresses, *totals.outputs, len(self.places))
        return launches(launch, totals.blocks, arguments)

    def _measured(self) -> Totals:
        if self._totals is None:
            self._totals = Totals(self._device, self._elements, quantities(self._rule))
        return self._totals

    def sums(self) -> Numbers:
        """Return the addresses of the totals, one row per tensor."""
        first, count = self._measured().sums.address, len(self.places)
        columns: Numbers = np.arange(count)[:, None] + count * np.arange(quantities(self._rule))
        return first + 8 * columns

    def _measuring(self, key: tuple[Any, str]) -> tuple[Program, Launch]:
        """Return the program and kernel of the pass before the sweep."""
        if key not in self._measures:
            program = program_of(self._rule, self._dtypes, *key, measures=True)
            self._measures[key] = program, self._device.kernel(program)
        return self._measures[key]


@dataclass
class Prepared:
    """The launches that step some tensors.

    Attributes
    ----------
    measures : list
        The launches that take totals of each tensor.
    sweeps : list
        The launches that step the tensors.
    targets : list of Target
        Scalars that the device computes before the launches that read them.
    """

    measures: list[Launches]
    sweeps: list[Launches]
    targets: list[Target]


def _places(pending: Pending) -> tuple[int, int]:
    """Return the addresses of the global norm and of each tensor's; 0 for none."""
    norms = pending.norms
    return int(pending.norm.address), 0 if norms is None else int(norms.address) + 8 * FIRST_NORM
