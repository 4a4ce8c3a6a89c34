"""Steps of some rows of an array: the sweep, through a table of row indices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..._typing import Array
from ...arrays.backend import COMPLEX, COMPUTE, ITEMSIZE, reals
from ...arrays.libraries import backend_of
from ...arrays.memory import Stretches
from ...arrays.rows import Rows
from ...rules.rule import Rule
from ...rules.stages import SLOTS
from ..rowmajor import by_rows, row_major
from .arrays import CAPTURING, library_of
from .device import Launch, launches, start
from .element import addressed, element, scalars
from .prelude import THREADS
from .program import TYPES, Program, named, numbers_of, opening, stages_of

__all__ = ["RowPlan", "row_program"]


class RowPlan:
    """Steps of rows of one array.

    Parameters
    ----------
    rule : Rule
        An elementwise rule.
    param : array
        A parameter that `refusal` accepts.
    slots : mapping of str to array
        Its slots.
    occupied : Stretches
        The memory that the whole step writes. Gradient rows in it are copied.
    threads : int, optional
        Unused; for the same signature as in the CPU engine.

    Attributes
    ----------
    compute : str
        The compute dtype.

    Raises
    ------
    ValueError
        If the parameter's rows are not contiguous in memory.
    """

    def __init__(
        self,
        rule: Rule,
        param: Array,
        slots: Mapping[str, Array],
        occupied: Stretches,
        threads: int | None = None,
    ) -> None:
        library = library_of(param)
        assert library is not None
        if not row_major(param.shape, library.strides(param)):
            raise ValueError("its rows are not contiguous in memory")
        self._rule, self._library, self._occupied = rule, library, occupied
        self._number = library.number(param)
        self._device = library.device(self._number)
        names = (*rule.slots, *(name for name in SLOTS.values() if name in slots))
        self._arrays = {"p": param, **{name: slots[name] for name in names}}
        self._dtypes = {name: backend_of(x).dtype(x) for name, x in self._arrays.items()}
        if "uint8" in self._dtypes.values():
            raise ValueError("its state is in 8-bit codes")
        self.compute = COMPUTE[self._dtypes["p"]]
        self._parts = 2 if self._dtypes["p"] in COMPLEX else 1
        self._programs: dict[Any, tuple[Program, Launch, int]] = {}

        at, size = library.address(param), self._parts * math.prod(param.shape)
        end = at + size * ITEMSIZE[reals(self._dtypes["p"])]
        occupied.add(np.array([at]), np.array([end]))
        self._known = self._described(param)

    def _described(self, p: Array) -> tuple[Any, ...]:
        library, kind = self._library, backend_of(p).dtype(p)
        return library.number(p), library.address(p), library.strides(p), tuple(p.shape), kind

    def fits(self, param: Array) -> bool:
        """Whether the parameter is as before, at the same address."""
        return library_of(param) is self._library and self._described(param) == self._known

    def prepare(self, gradient: Rows, numbers: Mapping[str, float]) -> Callable[[], None]:
        """Prepare a step, and return a function that launches it, once.

        Parameters
        ----------
        gradient : Rows
            The gradient's rows; no row index occurs twice.
        numbers : mapping of str to float
            The per-step scalars.

        Raises
        ------
        RuntimeError
            If the kernel cannot be compiled on this machine, or a CUDA graph is being captured.
        """
        library = self._library
        if library.captures(self._number):
            raise RuntimeError(CAPTURING)
        width = self._parts * gradient.width
        total = int(gradient.rows.shape[0]) * width
        with self._device.active(library.stream(self._number)):
            rows, kind = self._readable(gradient.rows)
            index = backend_of(rows).cast(gradient.indices, "int64")
            index = (
                index if row_major(index.shape, library.strides(index)) else by_rows(index, "int64")
            )
            program, launch, pack = self._program(tuple(numbers), kind)
            addresses = [library.address(x) for x in (index, rows, *self._arrays.values())]
            given = [float(numbers[name]) for name in program.numbers]
            blocks = -(-total // (pack * THREADS))
            call = launches(launch, blocks, (total, width, *addresses, *given))

        def run(keep: Any = (index, rows)) -> None:
            with self._device.active(library.stream(self._number)):
                start(call)
            library.wrote([self._arrays["p"]])

        return run

    def _readable(self, rows: Array) -> tuple[Array, str]:
        """Return rows that a kernel can read, copied if needed, and their dtype."""
        found, own = backend_of(rows).dtype(rows), self._dtypes["p"]
        kind = own if own in COMPLEX else found
        at = self._library.address(rows)
        size = math.prod(rows.shape) * self._parts * ITEMSIZE[reals(kind)]
        if (
            kind != found
            or self._library.refusal(rows) is not None
            or not row_major(rows.shape, self._library.strides(rows))
            or len(self._occupied.touched(np.array([at]), np.array([at + size])))
        ):
            return by_rows(rows, kind), kind
        return rows, kind

    def _program(self, given: tuple[str, ...], kind: str) -> tuple[Program, Launch, int]:
        key = given, kind
        if key not in self._programs:
            program, pack = row_program(self._rule, self._dtypes, given, kind)
            self._programs[key] = program, self._device.kernel(program), pack
        return self._programs[key]


def row_program(
    rule: Rule, dtypes: Mapping[str, str], given: Sequence[str], gradients: str
) -> tuple[Program, int]:
    """Return the kernel of a step of rows.

    Parameters
    ----------
    rule : Rule
        The update rule.
    dtypes : mapping of str to str
        The dtype of the parameter as ``p``, and of each slot.
    given : sequence of str
        Names of the per-step scalars that the step has.
    gradients : str
        Dtype of the gradient.

    Returns
    -------
    Program
        The kernel.
    int
        The number of elements that a thread steps at once.
    """
    labels = {name: f"s{k}" for k, name in enumerate(rule.slots)}
    streams = [("g", reals(gradients))]
    streams += [(labels.get(name, name), reals(dtype)) for name, dtype in dtypes.items()]
    stages = stages_of(given, tuple(dtypes))
    pack = 16 // min(ITEMSIZE[dtype] for _, dtype in streams)
    names = numbers_of(rule, stages)
    parts = [
        *opening(rule, stages, COMPUTE[dtypes["p"]]),
        element(rule, stages, streams),
        _kernel(names, streams, pack),
    ]
    return named(f"rows_{rule.name}", parts, names), pack


def _kernel(numbers: Sequence[str], streams: Sequence[tuple[str, str]], pack: int) -> str:
    """Write the kernel: each thread finds its row, and steps a pack of it or single elements."""
    pointers = "".join(f", {TYPES[dtype]} *a_{name}" for name, dtype in streams)
    arguments = "".join(f", double n_{name}" for name in numbers)
    addresses, others = addressed(streams, " | ", "(whole)"), addressed(streams[1:])

    def stepped(width: int) -> str:
        return (
            f"const whole at = rows[i / width] * width + i % width; "
            f"stepped<{width}>(at, a_g + (i - at), {others}, c);"
        )

    lines = [
        "const double *norm = 0;",
        "Numbers c;",
        *scalars({name: f"n_{name}" for name in numbers}),
        f"const whole begin = (whole){pack} * THREADS * blockIdx.x;",
        f"const whole end = begin + {pack} * THREADS, stop = total < end ? total : end;",
        f"const bool packed = (({addresses}) & 15) == 0 && width % {pack} == 0;",
        "EACH_THREAD(u) {",
        f"    if (packed) for (whole i = begin + {pack} * u; i < stop; i += {pack} * THREADS) {{",
        f"        {stepped(pack)}",
        "    } else for (whole i = begin + u; i < stop; i += THREADS) {",
        f"        {stepped(1)}",
        "    }",
        "}",
    ]
    return "\n".join(
        [
            f"KERNEL @NAME@(whole total, whole width, const whole *rows{pointers}{arguments}) {{",
            *(f"    {line}" for line in lines),
            "}",
        ]
    )
