"""From a program to optimised LLVM IR, by Numba. Imported only if nothing is cached."""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any

from llvmlite import ir
from numba import njit, types

from .coded import FUNCTIONS, CodeStream
from .memory import COMPUTE, JOB_ACCESS, Stream
from .numbers import I32, I64, MEMORY
from .parts import joined
from .source import Program
from .vectors import inner
from .vocabulary import vocabulary
from .words import words

_INLINED: dict[str, Any] = {"error_model": "numpy", "forceinline": True}
_BARE: dict[str, Any] = {
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
ENTRY = "arrayoptim_entry"
"""Name of the C function of a program with an answer."""

_OF_RULES = ("rule", "direction", "measure")


def compiled(program: Program) -> tuple[str, str]:
    """Compile a program.

    Parameters
    ----------
    program : Program
        The program.

    Returns
    -------
    name, text : str
        Name of the kernel's function and the module as optimised LLVM IR.

    Raises
    ------
    TypeError
        If Numba cannot compile it, for instance because a rule leaves the grammar.
    """
    names = _namespace(program)
    exec(program.source, names)
    try:
        result = types.int64 if program.answers else types.void
        kernel = njit(result(types.int64, types.int64), **_BARE)(names["kernel"])
    except Exception as error:  # not always one of Numba's, as for an unknown function
        named = ", ".join(f.__name__ for name, f in program.functions if name in _OF_RULES)
        reason = " ".join(str(error).split("\n\n", maxsplit=1)[0].split())
        raise TypeError(
            f"rule {named}: no loop can be compiled of it: {reason}; "
            "arrayoptim.testing.check_optimizer says where it leaves the grammar of rules, and "
            'arrayoptim.engine("array") takes steps without a compiler'
        ) from error
    (signature,) = kernel.signatures
    found: Any = kernel.overloads[signature]
    return found.fndesc.llvm_func_name, kernel.inspect_llvm(signature)


def wrapped(name: str) -> str:
    """Write a C function of three words that wraps a Numba function with an answer.

    Parameters
    ----------
    name : str
        Name of Numba's function.

    Returns
    -------
    str
        A module as LLVM IR, with the function `ENTRY`.
    """
    module = ir.Module()
    places = [I64.as_pointer()] * 2
    inner = ir.Function(module, ir.FunctionType(I32, (*places, I64, I64)), name)
    outer = ir.Function(module, ir.FunctionType(I64, (I64,) * 3), ENTRY)
    builder = ir.IRBuilder(outer.append_basic_block())
    answer, error = builder.alloca(I64), builder.alloca(I64)
    builder.call(inner, (answer, error, *outer.args[:2]))
    builder.ret(builder.load(answer))
    return str(module)


def _namespace(program: Program) -> dict[str, Any]:
    names: dict[str, Any] = {**JOB_ACCESS, **FUNCTIONS}
    names["compute"] = COMPUTE[program.compute][0]
    names["xp"] = vocabulary()
    for position, (name, storage) in enumerate(program.streams):
        kind = CodeStream if storage in ("int8", "uint8") else Stream
        stream = kind(position, len(program.streams), storage, program.compute)
        if isinstance(stream, CodeStream):
            names[f"load_{name}"], names[f"nearest_{name}"] = stream.load(), stream.encode_nearest()
            names[f"lower_{name}"], names[f"upper_{name}"] = stream.encode(0), stream.encode(1)
            continue
        names[f"load_{name}"], names[f"store_{name}"] = stream.load(), stream.store()
        names[f"stored_{name}"], names[f"chance_{name}"] = stream.stored(), stream.chance()
        names[f"squares_{name}"], names[f"bits_{name}"] = stream.squares(), stream.bits()
        names[f"add_squares_{name}"], names[f"add_values_{name}"] = stream.add(True), stream.add()
        names[f"raise_{name}"] = stream.raised()
        if storage in MEMORY:  # all but the exponents of codes
            names[f"inner_{name}"] = inner(storage)
        names[f"sum_{name}"], names[f"max_{name}"] = stream.joined(False), stream.joined(True)
    for name, function in program.functions:
        names[name] = njit(**_INLINED)(function)
    names["ns"] = words()
    names["word"] = partial(_word, names["ns"])
    # Separately compiled parts would be compiled again in each caller.
    inlined = {part.__name__ for part in program.inlined}
    for name, part in joined((*program.parts, *program.inlined), names).items():
        names[name] = njit(**_BARE, inline="always" if name in inlined else "never")(part)
    return names


def _word(ns: ModuleType, function: Any) -> Any:
    """Compile a function of the source into the namespace of parts."""
    setattr(ns, function.__name__, njit(**_BARE)(function))
    return getattr(ns, function.__name__)
