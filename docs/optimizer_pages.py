"""Sphinx extension: writes a page for each registered optimizer, from the class itself."""

from __future__ import annotations

import difflib
import inspect
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import arrayoptim as ao
import formulas
import optimizer_table
import which_measured
from arrayoptim.config import other_libraries
from arrayoptim.step.options import Options

FOLDER = Path(__file__).parent / "optimizers" / "generated"
PROGRAMS = Path(__file__).parent / "coming_from" / "programs"


def rules(cls: type[ao.Optimizer]) -> list[Any]:
    """Return the rules written in the module of a class, or of that which it takes them from.

    Where parameters have different rules, they are those of a matrix and of a vector.
    """
    known, optimizer = type(cls().rule), cls()
    chosen = [optimizer.rule_for("", shape) for shape in ((2, 2), (2,))]
    if chosen[0] is not chosen[1]:
        return chosen
    for base in cls.__mro__:
        found = [x for x in vars(sys.modules[base.__module__]).values() if type(x) is known]
        if found:
            return found
    return []


def heading(text: str, underline: str) -> str:
    """Return a title."""
    return f"{text}\n{underline * len(text)}\n"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [headers, *rows]:
        for i, cell in enumerate(row):
            lines.append(f"   {'*' if i == 0 else ' '} - {cell}".rstrip())
    return "\n".join(lines) + "\n"


def code(text: str) -> str:
    """Return a block of Python."""
    lines = [f"   {line}".rstrip() for line in text.splitlines()]
    return "\n".join([".. code-block:: python", "", *lines]) + "\n"


def hyperparameters(cls: type[ao.Optimizer]) -> str:
    """Return the table of what a class declares for itself."""
    rows = []
    for name, declared in cls.hyperparameters.items():
        common = Options.hyperparameters.get(name)
        if common is not None and common.default == declared.default:
            continue
        allowed = declared.interval.text if declared.interval else declared.wanted
        keyword = " (keyword only)" if declared.keyword else ""
        rows.append([f"``{name}``{keyword}", f"``{declared.default!r}``", allowed, declared.doc])
    count = len(Options.hyperparameters)
    return (
        table(["name", "default", "allowed", "meaning"], rows)
        + f"\nBesides these it takes the {count} :doc:`options that every optimizer has "
        "<../../options>`: clipping, weight decay, groups, averages and more.\n"
    )


def update(cls: type[ao.Optimizer]) -> str:
    """Return the formula of the rule without options; nothing where it goes over matrices."""
    rule = cls().rule
    try:
        lines = formulas.formula(rule.function, rule.slots).splitlines()
    except formulas.NoFormulaError:
        return ""
    math = "\n".join(["..  math::", "", *(f"    {line}" for line in lines)])
    letters = list(inspect.signature(rule.function).parameters)[2 : 2 + len(rule.slots)]
    kept = ", ".join(
        f":math:`{formulas.letter(letter)}` is ``{slot}``"
        for letter, slot in zip(letters, rule.slots, strict=True)
    )
    return (
        f"{math}\n\nfor each parameter :math:`p` with its gradient :math:`g`, once a step"
        f"{'; ' * bool(kept)}{kept}. All else is computed once a step from the hyperparameters, as "
        "the notes below say.\n"
    )


def size(cls: type[ao.Optimizer]) -> str:
    """Return how many bytes of state a float32 parameter has."""
    optimizer, p = cls(), np.zeros((256, 256), np.float32)
    optimizer.init(p)
    held = sum(x.nbytes for x in optimizer.weights if isinstance(x, np.ndarray))
    share = f"{held / p.size:.3g}"
    return f"{share} bytes of state for each float32 parameter of a matrix of (256, 256).\n"


def slots(cls: type[ao.Optimizer]) -> str:
    """Return the table of the state arrays each rule keeps."""
    rows = [
        [f"``{rule.name}``", ", ".join(f"``{slot}``" for slot in rule.slots)] for rule in rules(cls)
    ]
    scalars = ", ".join(f"``{name}``" for name in cls().initial_scalars()) or "none"
    note = (
        "One array of each slot per parameter, of its shape and zero before the first step unless "
        "the notes above say otherwise. "
        "16-bit parameters have float32 slots and one more, ``master``, unless ``master=False``. "
        f"Numbers kept beside ``iterations``: {scalars}.\n"
    )
    return table(["rule", "slots"], rows) + "\n" + note


def presets(cls: type[ao.Optimizer]) -> str:
    """Return the table of whose formulas a class computes."""
    if not cls.presets:
        return "This optimizer has no presets.\n"
    own = cls().rule
    rows = []
    for preset, form in cls.presets.items():
        rule = cls(preset=preset).rule
        told = f"that of ``{rule.name}``" if rule is not own else "another, which the notes give"
        others = ", ".join(
            f"``{name}={declared.elsewhere[preset]!r}``"
            for name, declared in cls.hyperparameters.items()
            if preset in declared.elsewhere
        )
        formula = told if form else "the same as without a preset"
        rows.append([f"``{preset!r}``", formula, others or "none"])
    return table(["preset", "formula", "other defaults"], rows) + "\nSee :doc:`../../parity`.\n"


def curve(cls: type[ao.Optimizer], day: str, curves: which_measured.Curves) -> str:
    """Return the picture of how it trains; nothing where that has not been measured."""
    name, rates = cls.__name__, len(which_measured.RATES)
    if not all(name in runs for runs in curves.values()):
        return ""
    return heading("Three problems", "-") + (
        f".. image:: {name}.svg\n"
        f"   :alt: The loss of {name} on three problems, in front of all others\n\n"
        f"In colour {name}, in grey all others, each with the best of {rates} rates; above are the "
        "last loss and its rate. SGD has a momentum of 0.9. Large problems may put them in another "
        f"order: see :doc:`../../which_optimizer`. Measured on {day}.\n"
    )


def programs(cls: type[ao.Optimizer]) -> str:
    """Return the programs of the gallery that have it."""
    options = ["add-heading: Programs", "heading-level: -"]
    lines = [f".. minigallery:: arrayoptim.{cls.__name__}", *(f"   :{each}" for each in options)]
    return "\n".join(lines) + "\n"


def page(cls: type[ao.Optimizer], day: str, curves: which_measured.Curves) -> str:
    """Return the page of one optimizer."""
    sources = [code(textwrap.dedent(inspect.getsource(rule.function))) for rule in rules(cls)]
    parts = [
        heading(cls.__name__, "="),
        f".. autoclass:: arrayoptim.{cls.__name__}\n   :no-members:\n",
        curve(cls, day, curves),
        heading("Hyperparameters of its own", "-"),
        hyperparameters(cls),
        heading("Presets", "-"),
        presets(cls),
        heading("State", "-"),
        size(cls),
        slots(cls),
        heading("Update rule", "-"),
        "What every engine runs, with the arrays in place of the letters:\n",
        *sources,
        programs(cls),
    ]
    return "\n".join(parts)


def words() -> str:
    """Return the tables of what other libraries call it."""
    parts = []
    for title, rows in (
        ("Arguments", other_libraries.ARGUMENTS),
        ("Attributes and methods of optimizers", other_libraries.METHODS),
        ("Names of modules", other_libraries.NAMES),
        ("Schedules", other_libraries.RATES),
    ):
        cells = [
            [f"``{row.word}``", row.library, row.here.format(cls=row.of or "Adam")] for row in rows
        ]
        parts.append(f"**{title}**\n\n{table(['elsewhere', 'in', 'here'], cells)}")
    return "\n".join(parts)


def whole_diff(name: str) -> str:
    """Return what changes in a program that comes here from another library, and all around it."""
    before, after = (
        (PROGRAMS / f"{name}_{when}.py").read_text(encoding="utf-8").splitlines()
        for when in ("before", "after")
    )
    lines = difflib.unified_diff(before, after, n=len(before), lineterm="")
    shown = [f"   {line}".rstrip() for line in lines if not line.startswith(("---", "+++", "@@"))]
    return "\n".join([".. code-block:: diff", "", *shown]) + "\n"


def write(app: Any = None) -> None:
    """Write every page whose text has changed, and remove those of classes that are gone."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    day, curves = which_measured.recorded()
    pages = {f"{name}.rst": page(type(ao.get(name)), day, curves) for name in ao.names()}
    report = optimizer_table.read()
    whole = table(optimizer_table.HEADERS, optimizer_table.rows(report))
    pages["table.inc"] = f"{whole}\n{optimizer_table.note(report)}"
    pages["words.inc"] = words()
    for path in PROGRAMS.glob("*_before.py"):
        name = path.stem.removesuffix("_before")
        pages[f"program_{name}.inc"] = whole_diff(name)
    for old in FOLDER.iterdir():
        if old.suffix != ".svg" and old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        target = FOLDER / name
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
    for name in next(iter(curves.values())):
        picture = FOLDER / f"{name}.svg"
        if not picture.exists() or picture.stat().st_mtime < which_measured.RECORD.stat().st_mtime:
            which_measured.draw_one(name, curves, picture)


def shorten(
    app: Any, what: str, name: str, made: Any, options: Any, signature: Any, result: Any
) -> tuple[str, Any] | None:
    """Return the signature of an optimizer without the options that all have."""
    if what != "class" or not issubclass(made, ao.Optimizer) or made is ao.Optimizer:
        return None
    rows = inspect.signature(made).parameters.values()
    own = [str(row) for row in rows if row.name not in Options.hyperparameters]
    return f"({', '.join([*own, '**options'])})", result


def add_formula(app: Any, what: str, name: str, made: Any, options: Any, lines: list[str]) -> None:
    """Put the formula of an optimizer below the sentence that says what a step does."""
    if what != "class" or made.__name__ not in ao.names():
        return
    first = next(i for i, line in enumerate(lines) if line)
    place = next((i for i, line in enumerate(lines) if i > first and not line), len(lines))
    lines[place:place] = ["", *update(made).splitlines(), ""]


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-process-signature", shorten)
    # After numpydoc, which takes a docstring apart and lets no formula stand there.
    app.connect("autodoc-process-docstring", add_formula, priority=900)
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
