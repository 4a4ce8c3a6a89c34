"""The passes of a rule with sums along rows and columns.

A total must be complete before anything that depends on it: each pass over all elements computes as
much as the known totals allow, and per-row and per-column values are computed in between. Elements
are recomputed in each pass, which is cheaper than storing them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from ..numerics.sums import WIDTH, tile_height
from ..rules.rule import Rule
from ..rules.symbols import REDUCTIONS, Traced, Value, traced

__all__ = ["Grid", "Passes", "grid_of", "passes", "rooms", "sweeps"]

Grid = tuple[int, int, int, int]
"""Rows and columns of a matrix, in elements and in tiles."""


class Passes:
    """The evaluation order of a rule's values.

    Parameters
    ----------
    rule : Rule
        The rule.
    found : Traced
        Its traced values.

    Attributes
    ----------
    slots, results : tuple of Value
        The rule's slots, and the new parameter and slots.
    totals : list of Value
        Totals over elements, which passes over them accumulate in parts.
    kept : list of Value
        Values kept for each tensor until the step is done: totals, and per-row or per-column values
        that a later pass needs.
    turns : list of (int, bool)
        The passes in order: their number, starting with 1, and whether they go over all elements;
        the others go over the rows and columns of each tensor, after those with the same number.
        The last pass over elements stores them.
    """

    def __init__(self, rule: Rule, found: Traced) -> None:
        self.rule, self.slots, self.results = rule, found.slots, found.results
        order = list(_ordered(self.results))
        self._levels: dict[Value, int] = {}
        self._users: dict[Value, list[Value]] = {value: [] for value in (*order, *self.slots)}
        for value in order:
            self._levels[value] = self._level(value)
            for each in value.args:
                self._users[each].append(value)
        self.totals = [v for v in order if _is_total(v)]
        stored = [self._levels[v] for v in self.results if v.space == "full"]
        self.count = max([1 + max(stored), *(self._levels[v] for v in self.totals)])
        self.kept = [v for v in order if self._is_kept(v)]
        pairs = list(zip(self.slots, self.results[1:], strict=True))
        self._written = {s: self._end(s, v) for s, v in pairs if v.space != "full" and v is not s}
        turns = [(turn, whole) for turn in range(1, self.count + 1) for whole in (True, False)]
        self.turns = [(t, whole) for t, whole in turns if whole or self._between(t)]

    def totals_of(self, turn: int) -> list[Value]:
        """Return the totals that a pass over elements accumulates."""
        return [v for v in self.totals if self._levels[v] == turn]

    def kernels(self) -> list[tuple[str, int]]:
        """Return what each kernel on a device does, in order, and its pass.

        Unlike a loop on the host, none both adds up totals and stores what the step gives.
        """
        found = []
        for turn, whole in self.turns:
            if whole and self.totals_of(turn):
                found.append(("totals", turn))
            if whole and turn == self.count:
                found.append(("stored", turn))
            if not whole:
                found.append(("between", turn))
        return found

    def kept_of(self, turn: int) -> list[Value]:
        """Return the values that a pass over rows and columns computes, in order."""
        return [v for v in self.kept if max(self._levels[v], 1) == turn]

    def written_of(self, turn: int) -> list[tuple[Value, Value]]:
        """Return the slots that a pass over rows and columns writes, with their new values."""
        pairs = zip(self.slots, self.results[1:], strict=True)
        return [(slot, value) for slot, value in pairs if self._written.get(slot) == turn]

    def _between(self, turn: int) -> bool:
        return bool(self.totals_of(turn) or self.kept_of(turn) or self.written_of(turn))

    def _level(self, value: Value) -> int:
        """Return the number of passes after which a value can be computed."""
        level = max((self._levels[v] for v in value.args), default=0)
        if _is_total(value):
            return level + 1
        return max(level, 1) if value.op in REDUCTIONS else level

    def _is_kept(self, value: Value) -> bool:
        if value.space == "full" or value.op in _SHORT:
            return False
        if value.op in REDUCTIONS or value in self.results or self._is_summed(value):
            return True
        return self._levels[value] > 0 and self._is_wanted(value, self._levels[value])

    def _is_summed(self, value: Value) -> bool:
        """Whether a value's entries are reduced to one number, for which they must be in memory."""
        users = self._users[value]
        return any(u.op in REDUCTIONS or (u.op == "view" and self._is_summed(u)) for u in users)

    def _is_wanted(self, value: Value, level: int) -> bool:
        """Whether a later pass, or one over elements, uses a value."""
        return any(
            user.space == "full"
            or self._levels[user] > level
            or (user.op in _SHORT and self._is_wanted(user, level))
            for user in self._users[value]
        )

    def _end(self, slot: Value, value: Value) -> int:
        """Return the pass in which a slot can be written because no later one reads it."""
        return max(self._levels[value], 1, *(self._used(user) for user in self._users[slot]))

    def _used(self, value: Value) -> int:
        """Return the last pass that computes a value."""
        if value.space == "full" or _is_total(value):
            return self.count
        if value in self.kept:
            return max(self._levels[value], 1)
        return max((self._used(user) for user in self._users[value]), default=1)


_SHORT = ("view", "input", "number", ">", ">=", "<", "<=")
"""Values that are not worth keeping, or not numbers."""


def _is_total(value: Value) -> bool:
    return value.op in REDUCTIONS and value.args[0].space == "full"


def _ordered(values: Iterable[Value]) -> Iterator[Value]:
    """Yield values in topological order."""
    seen: set[Value] = set()

    def visit(value: Value) -> Iterator[Value]:
        if value in seen:
            return
        seen.add(value)
        for each in value.args:
            yield from visit(each)
        yield value

    for value in values:
        yield from visit(value)


@cache
def passes(rule: Rule) -> Passes | None:
    """Return the passes of a rule for matrices.

    Parameters
    ----------
    rule : Rule
        The rule.

    Returns
    -------
    Passes or None
        None if the rule is not a loop over elements.
    """
    found = traced(rule)
    return None if found is None else Passes(rule, found)


def sweeps(rule: Rule, engine: str) -> int:
    """Return how many loops or kernels of a fused engine go through the arrays in a step."""
    if rule.kind != "matrix":
        return 2 if rule.ratio is not None or rule.totals else 1
    plan = passes(rule)
    if plan is None:
        return 1
    return len(plan.kernels() if engine == "gpu" else plan.turns)


def grid_of(rows: int, columns: int) -> Grid:
    """Return the tiles of a matrix, over which its totals are accumulated."""
    return rows, columns, -(-rows // tile_height(columns)), -(-columns // WIDTH)


def rooms(plan: Passes, grids: Sequence[Grid]) -> tuple[int, list[list[int]]]:
    """Lay out the memory for values kept during a step.

    Parameters
    ----------
    plan : Passes
        The passes.
    grids : sequence of tuple
        The tiles of each matrix.

    Returns
    -------
    int
        The number of 8-byte values to allocate.
    list of list of int
        For each matrix, the offsets of `Passes.kept` and of the tiles' contributions to
        `Passes.totals`.
    """

    def lengths(grid: Grid) -> list[int]:
        rows, columns, down, across = grid
        of = {"one": 1, "rows": rows, "columns": columns}
        parts = {"one": rows * across, "rows": rows * across, "columns": columns * down}
        return [*(of[v.space] for v in plan.kept), *(parts[v.space] for v in plan.totals)]

    place, table = 0, []
    for grid in grids:
        row = []
        for count in lengths(grid):
            row.append(place)
            # Aligned to cache lines.
            place += -(-count // 8) * 8
        table.append(row)
    return place, table
