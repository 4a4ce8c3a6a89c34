"""LLVM: compilation of a program to an object file, and loading of the file.

Imported only if nothing is cached, or if `objects` does not support this system's files.
"""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from .compile import ENTRY, compiled, wrapped
from .source import Program


def object_file(program: Program) -> tuple[str, bytes]:
    """Compile a program.

    Parameters
    ----------
    program : Program
        The program.

    Returns
    -------
    name, content : str, bytes
        The name of its function, and an object file.
    """
    name, text = compiled(program)
    module = llvm.parse_assembly(text)
    if program.answers:
        module.link_in(llvm.parse_assembly(wrapped(name)))
        name = ENTRY
    _check_symbols(module)
    return name, bytes(_machine(3).emit_object(module))


def load(content: bytes, name: str) -> int:
    """Load an object file into memory, for the lifetime of the process.

    Parameters
    ----------
    content : bytes
        The file.
    name : str
        The name of a function in it.

    Returns
    -------
    int
        The address of the function.
    """
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(0))
    engine.add_object_file(llvm.ObjectFileRef.from_data(content))
    engine.finalize_object()
    place = int(engine.get_function_address(name))
    # Threads may run the code until the process ends: LLVM must not free it before.
    engine.detach()
    return place


def processor() -> tuple[str, str]:
    """Return LLVM's name of the processor, and its features."""
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@cache
def has_half() -> bool:
    """Whether the processor has instructions for float16."""
    return bool(llvm.get_host_cpu_features().get("f16c", True))


def _check_symbols(module: Any) -> None:
    """Raise for missing symbols, as the loader would abort."""
    for function in module.functions:
        name = function.name
        known = not function.is_declaration or name.startswith("llvm.")
        if not known and not llvm.address_of_symbol(name):
            raise RuntimeError(f"compiled code calls {name}, which this process does not have")


@cache
def _machine(level: int) -> Any:
    _initialize()
    triple = llvm.get_process_triple()
    cpu, features = processor()
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=level, jit=True, codemodel="jitdefault"
    )


@cache
def _initialize() -> None:
    # Required by older releases, an error since llvmlite 0.45.
    with contextlib.suppress(RuntimeError):
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
