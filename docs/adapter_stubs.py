"""Type stubs of the modules whose classes are made when they are asked for.

``python docs/made.py`` writes them anew; the tests say when they are out of date.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import arrayoptim as ao
from arrayoptim import adapters
from arrayoptim.config.fields import Field
from arrayoptim.config.hyper import REQUIRED, Hyper
from arrayoptim.config.registry import lookup
from arrayoptim.step.options import Options

PACKAGE = Path(ao.__file__).parent
NUMBER = "float | SupportsFloat | Schedule"
LEARNING_RATE = {"learning_rate": NUMBER}
KERAS = {
    **LEARNING_RATE,
    "global_clipnorm": "float | None",
    "use_ema": "bool",
    "ema_overwrite_frequency": "int | None",
    "loss_scale_factor": "float | None",
    "gradient_accumulation_steps": "int | None",
}
TORCH = {
    "maximize": "bool",
    "foreach": "bool | None",
    "fused": "bool | None",
    "capturable": "bool",
    "differentiable": "bool",
    "decoupled_weight_decay": "bool",
    "weight_decay": NUMBER,
    "l2": NUMBER,
}
# For each module: what a class is or a function returns, further imports, further options.
MODULES = {
    "keras": ("class", "KerasOptimizer", "", KERAS),
    "mpi": ("def", "DataParallel", "", LEARNING_RATE),
    "optax": ("def", "GradientTransformationExtraArgs", "optax", LEARNING_RATE),
    "scipy": ("def", "Method", "", LEARNING_RATE),
    "torch": ("class", "TorchOptimizer", "", LEARNING_RATE),
}
HEAD = '''"""{doc}

Made by docs/made.py from the declarations.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsFloat, SupportsInt, TypedDict

from typing_extensions import Unpack

from ._typing import Schedule
'''


def annotation(declared: Hyper) -> str:
    """Return the type that a constructor takes for a hyperparameter, as source."""
    if declared.interval is None and not declared.words:
        kind = (
            "bool" if isinstance(declared.default, bool) else "str" if declared.choices else "Any"
        )
    elif declared.words:
        kind = "str | Sequence[str]"
    elif declared.integer:
        kind = "int | SupportsInt"
    else:
        kind = "float | SupportsFloat" if isinstance(declared, Field) or declared.static else NUMBER
    return kind + (" | None" if declared.default is None and kind != "Any" else "")


def stub(module: str) -> str:
    """Return the text of a stub."""
    kind, result, framework, more = MODULES[module]
    adapter = getattr(ao, module)
    public = [name for name in adapter.__all__ if name != "names"]
    names = ao.torch.names() if module == "torch" else ao.names()
    rows = {name: signature(module, name) for name in names}
    common = list(spelled(module, "SGD", Options.hyperparameters))
    claimed = {row for own in rows.values() for row in own} & {*common, *Options.hyperparameters}
    lines = [HEAD.format(doc=(adapter.__doc__ or "").partition("\n")[0])]
    lines += [f"from {framework} import {result}"] if framework else []
    lines += [f"from .adapters.{module} import {name} as {name}" for name in public]
    lines += list(options(module, set(common) - claimed, claimed, more))
    for name, own in rows.items():
        lines += list(entry(kind, name, result, own, claimed))
    lines += ["", "", "def __getattr__(name: str) -> Any: ...", ""]
    return "\n".join(lines)


def spelled(module: str, name: str, declared: Any) -> Iterator[str]:
    """Yield hyperparameters by the keys that a module has for them."""
    if module != "torch":
        yield from declared
        return
    spelling = ao.torch.SGD.spelling if name == "SGD" else getattr(ao.torch, name).spelling
    yield from dict.fromkeys(spelling.key_of(each) for each in declared if spelling.key_of(each))


def signature(module: str, name: str) -> dict[str, str]:
    """Return the parameters of an optimizer that are its own, by name, as source."""
    made = getattr(ao.torch, name) if module == "torch" else lookup(name)
    cls = made.core if module == "torch" else made
    found, keyword = dict[str, str](), False
    for parameter in inspect.signature(made).parameters.values():
        key, apart = parameter.name, parameter.kind is inspect.Parameter.KEYWORD_ONLY
        own = module == "torch" and key in TORCH
        if key == "params" or (apart and key in Options.hyperparameters and not own):
            continue
        if apart and not keyword:
            found["*"], keyword = "*", True
        words = made.spelling.keys.get(key, ()) if module == "torch" else (key,)
        kind = annotation(cls.hyperparameters[words[0]]) if len(words) == 1 else "Sequence[float]"
        if isinstance(parameter.default, tuple) and None in parameter.default:
            kind = kind.replace("float", "float | None")
        kind = TORCH[key] if own else kind
        if parameter.default is None and not kind.endswith(("None", "Any")):
            kind += " | None"
        default = "" if parameter.default is REQUIRED else f" = {parameter.default!r}"
        found[key] = f"{key}: {kind}{default}"
    return found


def options(module: str, free: set[str], claimed: set[str], more: dict[str, str]) -> Iterator[str]:
    """Yield the dicts of options that all take; some have one of them by position."""
    rows = {k: annotation(h) for k, h in Options.hyperparameters.items()}
    rows = {k: v for k, v in rows.items() if module != "torch" or k != "groups"}
    yield "\n\nclass _Rest(TypedDict, total=False):"
    yield from (f"    {key}: {kind}" for key, kind in rows.items() if key in free)
    yield from (f"    {key}: {kind}" for key, kind in more.items())
    yield "\n\nclass _Options(_Rest, total=False):"
    yield from (f"    {key}: {rows[key]}" for key in rows if key in claimed)
    yield from [] if claimed else ["    pass"]


def entry(
    kind: str, name: str, result: str, own: dict[str, str], claimed: set[str]
) -> Iterator[str]:
    """Yield the class or the function of one optimizer."""
    rest = "_Rest" if claimed & set(own) else "_Options"
    listed = [*own.values(), f"**options: Unpack[{rest}]"]
    if list(own)[-1:] == ["*"]:
        listed.remove("*")
    cls = getattr(ao.torch, name).core if result == "TorchOptimizer" else lookup(name)
    doc = (cls.__doc__ or "").partition("\n")[0]
    if kind == "def":
        yield f'\n\n{called(name, listed, "")} -> {result}:\n    """{doc}"""'
        return
    first = ["self", "params: Iterable[Any]"] if result == "TorchOptimizer" else ["self"]
    yield f'\n\nclass {name}({result}):\n    """{doc}"""\n'
    yield f"{called('__init__', [*first, *listed], '    ')} -> None: ..."
    made = vars(getattr(ao.torch, name)) if result == "TorchOptimizer" else {}
    for word, method in made.items():
        # Steps are wrapped in the class when the first optimizer is made.
        if inspect.isfunction(method) and not hasattr(ao.torch.TorchOptimizer, word):
            # Annotations are strings, as in every module of the package.
            taken = str(inspect.signature(method)).replace("'", "")
            yield f"\n    def {word}{taken}: ..."


def called(name: str, listed: list[str], indent: str) -> str:
    """Return the head of a function, a line for each parameter."""
    rows = "".join(f"{indent}    {row},\n" for row in listed)
    rows = rows.replace("**options: Unpack[_Rest],", "**options: Unpack[_Rest]")
    return f"{indent}def {name}(\n{rows}{indent})"


def main() -> None:
    """Write the stubs of all modules whose frameworks are installed."""
    for module in sorted(MODULES.keys() & set(adapters.installed())):
        (PACKAGE / f"{module}.pyi").write_text(stub(module), encoding="utf-8")
