"""The kernel of a step, and the order of its numbers."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any

from ...arrays.backend import COMPUTE, reals
from ...rules.nonnegative import nonnegative_slots
from ...rules.rule import Rule
from ...rules.stages import SLOTS, SWEPT
from ..passes import passes
from .matrices import matrix_programs
from .native import code_address
from .sweep import measure_program, measuring, sweep_program

EXPONENTS = "_exponents"
"""Suffix of a slot's name for the exponents of its 8-bit codes."""

BY_CHANCE = ("bfloat16", "uint8")
"""Storage of slots that may be rounded stochastically."""


@dataclass
class Recipe:
    """A kernel, and how its numbers are passed.

    Attributes
    ----------
    kernels : tuple of int
        Addresses of the machine code of its passes.
    names : tuple of str
        The numbers it takes, in order.
    chance : bool
        Whether it takes a seed.
    row : ctypes array
        Memory for the numbers, shared by all tensors, and for one more.
    address : int
        The address of `row`.
    pack : callable
        Writes the numbers to `row`.
    """

    kernels: tuple[int, ...]
    names: tuple[str, ...]
    chance: bool

    def __post_init__(self) -> None:
        """Allocate memory for the numbers, and make the function that writes them."""
        count = len(self.names)
        self.row = (ctypes.c_double * (count + 1))()
        self.address = ctypes.addressof(self.row)
        self.pack = Struct(f"={count}d").pack_into

    def pick(self, numbers: Mapping[str, Any]) -> list[Any]:
        """Return the numbers that the kernel takes, in order."""
        return [numbers[name] for name in self.names]


class Recipes:
    """The recipes for arrays of certain dtypes.

    Parameters
    ----------
    rule : Rule
        The update rule.
    dtypes : mapping of str to str
        The dtype of the parameters as ``p``, and of each slot, in the order of the table.
    """

    def __init__(self, rule: Rule, dtypes: Mapping[str, str]) -> None:
        self._rule, self._dtypes = rule, dtypes
        self._known: dict[tuple[tuple[str, ...], str, bool | None], Recipe] = {}

    def find(self, given: tuple[str, ...], kind: str, chance: bool) -> Recipe:
        """Return the recipe of a step; compiles the kernel if needed.

        Parameters
        ----------
        given : tuple of str
            Names of the numbers that the step has.
        kind : str
            Dtype of the gradients.
        chance : bool
            Whether slots of less than 32 bits are rounded stochastically.

        Returns
        -------
        Recipe
            The recipe.
        """
        key = given, kind, chance
        recipe = self._known.get(key)
        if recipe is None:
            stages = self._stages(given)
            slots = self._by_chance() if chance else ()
            names = (*self._rule.coefficients, *(name for s in stages for name in SWEPT[s]))
            streams, compute = self._streams(kind)
            plan = passes(self._rule)
            if plan is None:
                programs = [sweep_program(self._rule, stages, streams, compute, slots)]
            else:
                programs = matrix_programs(plan, stages, streams, compute)
            kernels = tuple(map(code_address, programs))
            recipe = self._known[key] = Recipe(kernels, names, bool(slots))
        return recipe

    def measure(self, given: tuple[str, ...], kind: str) -> Recipe:
        """Return the recipe of the pass for totals, before the step of a tensorwise rule.

        Parameters
        ----------
        given : tuple of str
            Names of the numbers that the step has.
        kind : str
            Dtype of the gradients.

        Returns
        -------
        Recipe
            The recipe.
        """
        key = given, kind, None
        recipe = self._known.get(key)
        if recipe is None:
            stages = self._stages(given)
            names = (*measuring(self._rule), *(name for s in stages for name in SWEPT[s]))
            program = measure_program(self._rule, stages, *self._streams(kind))
            recipe = self._known[key] = Recipe((code_address(program),), names, False)
        return recipe

    def _stages(self, given: Collection[str]) -> tuple[str, ...]:
        def used(stage: str) -> bool:
            slot = SLOTS.get(stage, "p")
            return slot in self._dtypes and all(name in given for name in SWEPT[stage])

        return tuple(stage for stage in SWEPT if used(stage))

    def _by_chance(self) -> tuple[str, ...]:
        slots = enumerate(self._rule.slots)
        return tuple(f"s{k}" for k, name in slots if self._dtypes[name] in BY_CHANCE)

    def _streams(self, kind: str) -> tuple[list[tuple[str, str]], str]:
        labels = {name: f"s{k}" for k, name in enumerate(self._rule.slots)}
        labels |= {name + EXPONENTS: f"x_{label}" for name, label in labels.items()}
        kinds = {name: reals(dtype) for name, dtype in self._dtypes.items()}
        if "uint8" in kinds.values():
            for name, nonnegative in zip(
                self._rule.slots, nonnegative_slots(self._rule), strict=True
            ):
                if kinds[name] == "uint8" and not nonnegative:
                    kinds[name] = "int8"
        streams = [(labels.get(name, name), storage) for name, storage in kinds.items()]
        return [("g", reals(kind)), *streams], COMPUTE[self._dtypes["p"]]
