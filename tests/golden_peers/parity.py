"""How far the presets stand from the libraries whose formulas they compute.

``python tests/golden_peers/parity.py`` runs both sides and writes ``docs/parity_table.rst``; it
needs this library, torch, jax, optax and keras. A test runs a shorter course of the same.
"""

from __future__ import annotations

import inspect
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import arrayoptim as ao

Words = dict[str, Any]
Step = Callable[[list[np.ndarray]], list[np.ndarray]]

TARGET = 1e-12
SHAPES = [(3, 4), (5,)]

SINGLE = {("Adafactor", "keras3"), ("Muon", "keras3")}
"""Where the peer has numbers of a float64 step in float32."""


class Case(NamedTuple):
    """The same optimizer on both sides."""

    preset: str
    theirs: str
    given: Words
    ours: str
    words: Words

    @property
    def target(self) -> float:
        """The largest difference allowed."""
        return 1e-7 if (self.ours, self.preset) in SINGLE else TARGET

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the parameters; torch's Muon takes no vectors."""
        return [(3, 4), (5, 2)] if (self.ours, self.preset) == ("Muon", "torch") else SHAPES

    def __str__(self) -> str:
        """Return a short name."""
        return f"{self.ours}-{self.preset}-{'-'.join(self.words)}"


TORCH = [
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}, "SGD", {"lr": 0.1, "l2": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}, "SGD", {"lr": 0.1, "momentum": 0.9}),
    (
        *("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        *("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9}, "RMSprop", {"lr": 0.01, "rho": 0.9}),
    (
        *("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.8, "weight_decay": 0.1}),
        *("RMSprop", {"lr": 0.01, "rho": 0.9, "momentum": 0.8, "l2": 0.1}),
    ),
    (
        *("RMSprop", {"lr": 0.01, "alpha": 0.9, "centered": True}),
        *("RMSprop", {"lr": 0.01, "rho": 0.9, "centered": True}),
    ),
    (
        *("RMSprop", {"lr": 0.01, "alpha": 0.9, "centered": True, "momentum": 0.8}),
        *("RMSprop", {"lr": 0.01, "rho": 0.9, "centered": True, "momentum": 0.8}),
    ),
    (
        *("Adagrad", {"lr": 0.1, "lr_decay": 0.05, "eps": 1e-3, "initial_accumulator_value": 0.1}),
        "Adagrad",
        {"lr": 0.1, "decay": 0.05, "epsilon": 1e-3, "initial_accumulator_value": 0.1},
    ),
    ("Adadelta", {"lr": 1.0, "rho": 0.9, "eps": 1e-6}, "Adadelta", {"rho": 0.9, "epsilon": 1e-6}),
    ("Adam", {"lr": 0.1, "eps": 1e-3}, "Adam", {"lr": 0.1, "epsilon": 1e-3}),
    (
        *("Adam", {"lr": 0.1, "eps": 1e-3, "amsgrad": True, "weight_decay": 0.1}),
        *("Adam", {"lr": 0.1, "epsilon": 1e-3, "amsgrad": True, "l2": 0.1}),
    ),
    (
        *("AdamW", {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.1}),
        *("AdamW", {"lr": 0.1, "epsilon": 1e-3, "weight_decay": 0.1}),
    ),
    ("Adamax", {"lr": 0.1, "eps": 1e-2}, "Adamax", {"lr": 0.1, "epsilon": 1e-2}),
    (
        *("NAdam", {"lr": 0.1, "momentum_decay": 0.02, "weight_decay": 0.1}),
        *("Nadam", {"lr": 0.1, "schedule_decay": 0.02, "l2": 0.1}),
    ),
    (
        *("NAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
        *("NadamW", {"lr": 0.1, "weight_decay": 0.1}),
    ),
    ("RAdam", {"lr": 0.1, "eps": 1e-3}, "RAdam", {"lr": 0.1, "epsilon": 1e-3}),
    ("Muon", {"lr": 0.1, "weight_decay": 0.2}, "Muon", {"lr": 0.1, "weight_decay": 0.2}),
    (
        *("Adafactor", {"lr": 0.1, "eps": (1e-3, 1e-2), "d": 2.0, "weight_decay": 0.1}),
        "Adafactor",
        {
            **{"lr": 0.1, "epsilon_1": 1e-3, "epsilon_2": 1e-2, "clip_threshold": 2.0},
            "weight_decay": 0.1,
        },
    ),
    (
        *("ASGD", {"lr": 0.1, "lambd": 0.2, "alpha": 0.6, "t0": 4.0}),
        *("ASGD", {"lr": 0.1, "lambd": 0.2, "alpha": 0.6, "t0": 4.0}),
    ),
    (
        *("Rprop", {"lr": 0.02, "etas": (0.4, 1.5), "step_sizes": (1e-3, 0.5)}),
        "Rprop",
        {"lr": 0.02, "eta_minus": 0.4, "eta_plus": 1.5, "step_min": 1e-3, "step_max": 0.5},
    ),
]
WITH_VECTORS = [row for row in TORCH if row[0] != "Muon"]
"""Those that take parameters of any shape."""

OPTAX = [
    (
        *("sgd", {"learning_rate": 0.1, "momentum": 0.9}),
        *("SGD", {"lr": 0.1, "momentum": 0.9}),
    ),
    (
        *("sgd", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
        *("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ),
    (
        *("rmsprop", {"learning_rate": 0.01, "eps": 1e-3}),
        *("RMSprop", {"lr": 0.01, "epsilon": 1e-3}),
    ),
    (
        *("rmsprop", {"learning_rate": 0.01, "eps": 1e-3, "centered": True, "momentum": 0.8}),
        *("RMSprop", {"lr": 0.01, "epsilon": 1e-3, "centered": True, "momentum": 0.8}),
    ),
    (
        *("adagrad", {"learning_rate": 0.1, "initial_accumulator_value": 0.0, "eps": 1e-3}),
        *("Adagrad", {"lr": 0.1, "epsilon": 1e-3, "initial_accumulator_value": 0.0}),
    ),
    (
        *("adadelta", {"learning_rate": 1.0, "rho": 0.9, "eps": 1e-6}),
        *("Adadelta", {"rho": 0.9, "epsilon": 1e-6}),
    ),
    ("adam", {"learning_rate": 0.1, "eps": 1e-3}, "Adam", {"lr": 0.1, "epsilon": 1e-3}),
    (
        *("amsgrad", {"learning_rate": 0.1, "eps": 1e-3}),
        *("Adam", {"lr": 0.1, "epsilon": 1e-3, "amsgrad": True}),
    ),
    (
        *("adamw", {"learning_rate": 0.1, "eps": 1e-3, "weight_decay": 0.1}),
        *("AdamW", {"lr": 0.1, "epsilon": 1e-3, "weight_decay": 0.1}),
    ),
    ("adamax", {"learning_rate": 0.1, "eps": 1e-2}, "Adamax", {"lr": 0.1, "epsilon": 1e-2}),
    ("nadam", {"learning_rate": 0.1, "eps": 1e-3}, "Nadam", {"lr": 0.1, "epsilon": 1e-3}),
    (
        *("nadamw", {"learning_rate": 0.1, "weight_decay": 0.1}),
        *("NadamW", {"lr": 0.1, "weight_decay": 0.1}),
    ),
    ("radam", {"learning_rate": 0.1, "eps": 1e-3}, "RAdam", {"lr": 0.1, "epsilon": 1e-3}),
    (
        *("adabelief", {"learning_rate": 0.1, "eps": 1e-3, "eps_root": 1e-3}),
        *("AdaBelief", {"lr": 0.1, "epsilon": 1e-3}),
    ),
    ("yogi", {"learning_rate": 0.1}, "Yogi", {"lr": 0.1}),
    ("adan", {"learning_rate": 0.1}, "Adan", {"lr": 0.1}),
    (
        *("contrib.ademamix", {"learning_rate": 0.01, "weight_decay": 0.0}),
        *("AdEMAMix", {"lr": 0.01}),
    ),
    ("contrib.adopt", {"learning_rate": 0.1}, "ADOPT", {"lr": 0.1}),
    (
        *("lion", {"learning_rate": 0.01, "weight_decay": 0.1}),
        *("Lion", {"lr": 0.01, "weight_decay": 0.1}),
    ),
    ("signum", {"learning_rate": 0.01, "beta": 0.8}, "Signum", {"lr": 0.01, "momentum": 0.8}),
    (
        *("lamb", {"learning_rate": 0.01, "weight_decay": 0.1}),
        *("LAMB", {"lr": 0.01, "weight_decay": 0.1}),
    ),
    (
        *("lars", {"learning_rate": 0.5, "weight_decay": 0.1, "trust_coefficient": 0.05}),
        *("LARS", {"lr": 0.5, "weight_decay": 0.1, "trust_coefficient": 0.05, "epsilon": 0.0}),
    ),
    ("rprop", {"learning_rate": 0.02}, "Rprop", {"lr": 0.02}),
]

KERAS3 = [
    ("SGD", {"learning_rate": 0.1, "weight_decay": 0.1}, "SGD", {"lr": 0.1, "weight_decay": 0.1}),
    (
        *("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
        *("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ),
    (
        *("RMSprop", {"learning_rate": 0.01, "epsilon": 1e-3}),
        *("RMSprop", {"lr": 0.01, "epsilon": 1e-3}),
    ),
    (
        *("RMSprop", {"learning_rate": 0.01, "epsilon": 1e-3, "centered": True, "momentum": 0.8}),
        *("RMSprop", {"lr": 0.01, "epsilon": 1e-3, "centered": True, "momentum": 0.8}),
    ),
    (
        *("Adagrad", {"learning_rate": 0.1, "epsilon": 1e-3}),
        *("Adagrad", {"lr": 0.1, "epsilon": 1e-3, "initial_accumulator_value": 0.1}),
    ),
    (
        *("Adadelta", {"learning_rate": 1.0, "epsilon": 1e-6}),
        *("Adadelta", {"lr": 1.0, "epsilon": 1e-6}),
    ),
    ("Adam", {"learning_rate": 0.1, "epsilon": 1e-3}, "Adam", {"lr": 0.1, "epsilon": 1e-3}),
    (
        *("Adam", {"learning_rate": 0.1, "epsilon": 1e-3, "amsgrad": True}),
        *("Adam", {"lr": 0.1, "epsilon": 1e-3, "amsgrad": True}),
    ),
    (
        *("AdamW", {"learning_rate": 0.1, "epsilon": 1e-3, "weight_decay": 0.1}),
        *("AdamW", {"lr": 0.1, "epsilon": 1e-3, "weight_decay": 0.1}),
    ),
    ("Adamax", {"learning_rate": 0.1, "epsilon": 1e-2}, "Adamax", {"lr": 0.1, "epsilon": 1e-2}),
    ("Nadam", {"learning_rate": 0.1, "epsilon": 1e-3}, "Nadam", {"lr": 0.1, "epsilon": 1e-3}),
    ("Adafactor", {"learning_rate": 0.1}, "Adafactor", {"lr": 0.1}),
    ("Muon", {"learning_rate": 0.1}, "Muon", {"lr": 0.1}),
    (
        *("Muon", {"learning_rate": 0.1, "weight_decay": 0.2, "adam_weight_decay": 0.1}),
        *("Muon", {"lr": 0.1, "weight_decay": 0.2, "adam_weight_decay": 0.1}),
    ),
    ("ScheduleFreeAdamW", {"learning_rate": 0.1}, "ScheduleFreeAdamW", {"lr": 0.1}),
    (
        *("ScheduleFreeAdamW", {"learning_rate": 0.1, "weight_decay": 0.1}),
        *("ScheduleFreeAdamW", {"lr": 0.1, "weight_decay": 0.1}),
    ),
    (
        *("Ftrl", {"learning_rate": 0.2, "l1_regularization_strength": 0.1, "beta": 0.5}),
        *("Ftrl", {"lr": 0.2, "l1_regularization_strength": 0.1, "beta": 0.5}),
    ),
    (
        *("Lion", {"learning_rate": 0.01, "weight_decay": 0.1}),
        *("Lion", {"lr": 0.01, "weight_decay": 0.1}),
    ),
    (
        *("Lamb", {"learning_rate": 0.01, "epsilon": 1e-3, "weight_decay": 0.1}),
        *("LAMB", {"lr": 0.01, "epsilon": 1e-3, "weight_decay": 0.1}),
    ),
]


def by_default(preset: str, rows: list[Any]) -> list[Any]:
    """Return the same optimizers with nothing said but what optax must be told."""
    pairs = dict.fromkeys((theirs, ours) for theirs, _, ours, _ in rows)
    told = {ours: {"lr": words.get("lr", 1.0)} for _, _, ours, words in rows}
    found = []
    for theirs, ours in pairs:
        words: Words = told[ours] if preset == "optax" else {}
        flags = {"amsgrad": True} if theirs == "amsgrad" else {}
        flags |= {"momentum": 0.0} if theirs == "sgd" else {}
        given: Words = {"learning_rate": words["lr"]} if words else {}
        if (theirs, ours) == ("NAdam", "NadamW"):
            given = {"weight_decay": 0.01, "decoupled_weight_decay": True}
        found.append((theirs, given, ours, words | flags))
    return found


CASES = [
    Case(preset, *row)
    for preset, rows in (("torch", TORCH), ("optax", OPTAX), ("keras3", KERAS3))
    for row in [*rows, *by_default(preset, rows)]
]
"""Epsilons are large, so that their place shows; then each with its defaults."""


def course(
    case: Case, step: Callable[[int, list[np.ndarray]], list[np.ndarray]], steps: int
) -> np.ndarray:
    """Return the parameters after each step; the gradients follow from step and parameters."""
    random = np.random.default_rng(7)
    params = [random.normal(size=shape) for shape in case.shapes]
    path = []
    for t in range(steps):
        grads = [
            0.1 * p + random.normal(size=p.shape) * 10 ** random.uniform(-2, 1) for p in params
        ]
        if t % 10 == 3:
            grads[0][0] = 0.0
        params = step(t, [*params, *grads])
        path.append(np.concatenate([p.ravel() for p in params]))
    return np.array(path)


def halved(rate: float, steps: int) -> Callable[[Any], Any]:
    """Return a schedule that halves a learning rate midway."""
    return lambda t: rate * (0.5 + 0.5 * (t < steps // 2))


def of_ours(case: Case, steps: int, **more: Any) -> np.ndarray:
    """Run this library."""
    cls: Any = type(ao.get(case.ours))
    lr = case.words.get("lr", cls.hyperparameters["lr"].default_under(more.get("preset")))
    opt = cls(**{**case.words, "lr": halved(lr, steps), **more})

    def step(t: int, arrays: list[np.ndarray]) -> list[np.ndarray]:
        params: list[np.ndarray] = opt.apply(arrays[2:], arrays[:2])
        return params

    return course(case, step, steps)


def of_torch(case: Case, steps: int) -> np.ndarray:
    """Run torch, which keeps some numbers in its default type."""
    import torch

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    held = [torch.nn.Parameter(torch.zeros(shape)) for shape in case.shapes]
    opt = getattr(torch.optim, case.theirs)(held, **case.given)
    rate = halved(opt.defaults["lr"], steps)

    def step(t: int, arrays: list[np.ndarray]) -> list[np.ndarray]:
        opt.param_groups[0]["lr"] = rate(t)
        for p, x, g in zip(held, arrays[:2], arrays[2:], strict=True):
            p.data, p.grad = torch.tensor(x), torch.tensor(g)
        opt.step()
        return [p.detach().numpy().copy() for p in held]

    try:
        return course(case, step, steps)
    finally:
        torch.set_default_dtype(default)


def of_optax(case: Case, steps: int) -> np.ndarray:
    """Run optax."""
    import jax
    import jax.numpy as jnp
    import optax

    given = dict(case.given)
    if case.theirs != "rprop":  # which has no schedule, as a rate only begins it
        given["learning_rate"] = halved(given["learning_rate"], steps)
    made: Any = optax
    for name in case.theirs.split("."):
        made = getattr(made, name)

    def run() -> np.ndarray:
        opt = made(**given)
        state = opt.init([jnp.zeros(shape) for shape in SHAPES])
        update = jax.jit(opt.update)

        def step(t: int, arrays: list[np.ndarray]) -> list[np.ndarray]:
            nonlocal state
            params = list(map(jnp.asarray, arrays[:2]))
            updates, state = update(list(map(jnp.asarray, arrays[2:])), state, params)
            return [np.array(p) for p in optax.apply_updates(params, updates)]

        return course(case, step, steps)

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        return run()
    finally:
        jax.config.update("jax_enable_x64", before)


def of_keras3(case: Case, steps: int) -> np.ndarray:
    """Run Keras 3, on whichever backend."""
    import keras

    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    opt = getattr(keras.optimizers, case.theirs)(**case.given)
    held: list[Any] = []
    told = inspect.signature(type(opt)).parameters["learning_rate"].default
    rate = halved(case.given.get("learning_rate", told), steps)

    def step(t: int, arrays: list[np.ndarray]) -> list[np.ndarray]:
        opt.learning_rate = rate(t)
        # Not before: what state begins with may be the parameter.
        held.extend(keras.Variable(x, dtype="float64") for x in arrays[: 2 - len(held)])
        for p, x in zip(held, arrays[:2], strict=True):
            p.assign(x)
        opt.apply([keras.ops.convert_to_tensor(g, "float64") for g in arrays[2:]], held)
        return [np.array(keras.ops.convert_to_numpy(p)) for p in held]

    try:
        return course(case, step, steps)
    finally:
        keras.config.set_floatx(before)


RUNS = {"torch": of_torch, "optax": of_optax, "keras3": of_keras3}
PACKAGES = {"torch": "torch", "optax": "optax", "keras3": "keras"}


def apart(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the largest difference of two courses, relative to 1 + |p|."""
    return float(np.max(np.abs(found - wanted) / (1 + np.abs(wanted))))


def rows(steps: int) -> Iterator[list[str]]:
    """Yield the lines of the table."""
    for case in CASES:
        wanted = RUNS[case.preset](case, steps)
        with ao.engine("array"):
            differences = [
                apart(of_ours(case, steps, preset=preset), wanted) for preset in (case.preset, None)
            ]
        call = ", ".join(f"{key}={value!r}" for key, value in case.given.items())
        words = ", ".join(f"{key}={value!r}" for key, value in case.words.items())
        numbers = [f"{x:.0e}" if x else "0" for x in differences]
        theirs = f"``{PACKAGES[case.preset]}: {case.theirs}({call})``"
        yield [
            f"`{case.ours}`",
            *numbers,
            theirs,
            f"``{words}``" if words else "those of the preset",
        ]


def main(steps: int = 100) -> None:
    """Write the table."""
    heads = ["here", "with the preset", "without", "there", "hyperparameters here"]
    lines = [".. Written by tests/golden_peers/parity.py.", ""]
    versions = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in PACKAGES.values())
    lines += [f"{steps} steps in float64 with {versions}, Python {platform.python_version()}.", ""]
    lines += [".. list-table::", "   :header-rows: 1", ""]
    for row in [heads, *rows(steps)]:
        lines += [f"   {' ' if i else '*'} - {cell}" for i, cell in enumerate(row)]
    target = Path(__file__).parents[2] / "docs" / "parity_table.rst"
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    # On other backends of Keras one class reads a slot after it has written it, and without this
    # JAX computes in float32.
    os.environ |= {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"}
    main()
