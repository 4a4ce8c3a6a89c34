"""Steps of the Keras classes on one backend; see `test_keras`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import arrayoptim as ao
from keras_helpers import (
    BACKEND,
    PAIRS,
    PATHS,
    RATE,
    SHAPES,
    TRACED,
    close,
    draw,
    equal,
    host,
    make,
    reference,
    tensors,
    train,
    variables,
)
from optimizers_under_test import CASES, NAMES, fused
from optimizers_under_test import make as make_plain
from schedules_under_test import CASES as EVERY_SCHEDULE
from schedules_under_test import make as make_schedule

SCHEDULES = [case for case in EVERY_SCHEDULE if case[0] != "Plateau"]

OPTIONS: list[dict[str, Any]] = [
    {"clipnorm": 1.0, "clipvalue": 0.4, "weight_decay": 0.02, "exclude": "bias"},
    {"l2": 0.01, "groups": [ao.group("bias", "gain", lr=2.0**-7)]},
]


STAGES: list[dict[str, Any]] = [
    {"clipnorm": 3.0, "clipnorm_per_tensor": 0.5, "agc": 0.25, "weight_decay": 0.1, "peak_lr": 1.0},
    {"constraint": "nonneg", "groups": [ao.group("bias", constraint=ao.constraints.MaxNorm(0.5))]},
]


@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        *CASES,
        *((name, options) for name in NAMES for options in OPTIONS),
        *(("Adam", options) for options in STAGES),
    ],
)
def test_numbers_are_those_of_numpy(name: str, hyper: dict[str, Any]) -> None:
    values, hyper = variables(), {"lr": RATE, **hyper}
    optimizer = make(name, **hyper)
    train(optimizer, values, range(6))
    if "outputs" in optimizer.optimizer_class.hyperparameters:
        hyper = {"outputs": "last", **hyper}  # as the kernels of Keras are
    wanted = reference(make_plain(name, **hyper), range(6))
    # Libraries add up the norms of units, and products of matrices, each in its own order.
    rounded = TRACED or "agc" in hyper or not fused(name)
    (close if rounded else equal)(host(values), [wanted[path] for path in PATHS])
    assert int(optimizer.iterations) == 6


@pytest.mark.parametrize(("ours", "hyper", "theirs", "others"), PAIRS)
def test_numbers_are_those_of_keras(
    ours: str, hyper: dict[str, Any], theirs: str, others: dict[str, Any]
) -> None:
    mine, their = variables(), variables()
    train(make(ours, lr=RATE, **hyper), mine, range(10))
    other = getattr(keras.optimizers, theirs)(learning_rate=RATE, **others)
    train(other, their, range(10))
    close(host(mine), host(their), 1e-5)


ENDS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 1.0}),
    ("SGD", {"momentum": 1.0, "nesterov": 1}),
    ("Lion", {"beta_1": 1.0}),
    ("Lion", {"beta_2": 1.0}),
    ("Ftrl", {"initial_accumulator_value": 0.0}),
    ("Ftrl", {"initial_accumulator_value": 0, "learning_rate_power": -0.6}),
    ("RMSprop", {"momentum": 1.5, "centered": 1}),
    ("RMSprop", {"rho": 1.0}),
    ("Adadelta", {"rho": 1.0}),
    ("Adamax", {"beta_2": 1.0}),
    ("Adam", {"amsgrad": 1}),
    ("AdamW", {"amsgrad": None}),
    ("Muon", {"momentum": 1.0, "exclude_embeddings": 0}),
    ("Adafactor", {"relative_step": 0}),
]
"""Values at an end of an interval, and numbers for yes and no, which Keras takes."""


@pytest.mark.parametrize(("name", "words"), ENDS)
def test_values_that_keras_takes(name: str, words: dict[str, Any]) -> None:
    mine, their = variables(), variables()
    train(make(name, lr=RATE, preset="keras3", **words), mine, range(10))
    train(getattr(keras.optimizers, name)(RATE, **words), their, range(10))
    close(host(mine), host(their), 1e-4 if name == "Muon" else 1e-5)


def test_follow_the_leader_from_nothing() -> None:
    """An entry without a gradient is 0, where Keras divides 0 by 0."""
    value = keras.Variable([1.0, 1.0])
    optimizer = ao.keras.Ftrl(lr=0.5, initial_accumulator_value=0.0)
    optimizer.apply(tensors([np.array([0.0, 2.0], np.float32)]), [value])
    equal(host([value]), [np.array([0.0, 0.5], np.float32)])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_small_steps_are_kept_in_16_bits(dtype: str) -> None:
    values = variables(dtype=dtype)
    train(make("Adam", lr=2.0**-12), values, range(50), dtype)
    kind = host(values)[0].dtype
    wanted = reference(ao.Adam(lr=2.0**-12), range(50), kind)
    close(host(values), [wanted[path] for path in PATHS], 1e-2 if TRACED else 0)
    assert any(np.any(a != b.astype(kind)) for a, b in zip(host(values), draw(0), strict=True))


def test_the_slots_are_variables(name: str) -> None:
    optimizer, values = make(name), variables()
    optimizer.build(values)
    before = host(optimizer.variables)
    train(optimizer, values, range(8))
    paths = [v.path for v in optimizer.variables]
    assert len(set(paths)) == len(paths)
    plain = make_plain(name)
    having = [plain.rule_for(path, shape).slots for path, shape in zip(PATHS, SHAPES, strict=True)]
    for slot in plain.rule.slots:
        longer = tuple(f"_{name}" for name in plain.rule.slots if name.endswith(f"_{slot}"))
        own = [
            k
            for k, path in enumerate(paths)
            if path.endswith(f"_{slot}") and not (longer and path.endswith(longer))
        ]
        assert len(own) == sum(slot in slots for slots in having)
        moved = any(np.any(host(optimizer.variables)[k] != before[k]) for k in own)
        # No estimates of the Hessian are made in Keras.
        assert moved or slot == "hessian" or plain.initial_slots()[slot] == "parameter"


def test_hyperparameters_can_be_read_and_set() -> None:
    optimizer, values = make("SGD", lr=RATE, momentum=0.5), variables()
    assert optimizer.momentum == 0.5 and float(optimizer.lr) == RATE
    optimizer.momentum = 0.25
    optimizer.lr = RATE / 2
    train(optimizer, values, range(3))
    wanted = reference(ao.SGD(lr=RATE / 2, momentum=0.25), range(3))
    (close if TRACED else equal)(host(values), [wanted[path] for path in PATHS])
    optimizer.learning_rate = RATE / 4
    assert float(optimizer.lr) == float(optimizer.learning_rate) == RATE / 4


def test_clipnorm_is_that_of_all_gradients() -> None:
    for word in ("clipnorm", "global_clipnorm"):
        values = variables()
        optimizer = make("SGD", lr=1.0, **{word: 0.5})
        assert optimizer.clipnorm == optimizer.global_clipnorm == 0.5
        before = host(values)
        optimizer.apply(tensors(draw(3)), values)
        moved = [a - b for a, b in zip(host(values), before, strict=True)]
        assert np.sqrt(sum(np.sum(np.square(m)) for m in moved)) == pytest.approx(0.5, rel=1e-5)


def test_missing_gradients_change_nothing() -> None:
    optimizer, values = make("Adam"), variables()
    train(optimizer, values, range(1))
    before, state = host(values), {v.path: x for v, x in zip(
        optimizer.variables, host(optimizer.variables), strict=True)}  # fmt: skip
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([*tensors(draw(5))[:2], None, None], values)
    equal(host(values)[2:], before[2:])
    for variable, value in zip(optimizer.variables, host(optimizer.variables), strict=True):
        assert not variable.path.endswith("scale_momentum") or np.all(value == state[variable.path])
    assert np.any(host(values)[0] != before[0])


def test_gradient_accumulation() -> None:
    summed, whole = variables(), variables()
    optimizer = make("Adam", lr=RATE, clipnorm=1.0, gradient_accumulation_steps=3)
    train(optimizer, summed, range(6))
    other = make("Adam", lr=RATE, clipnorm=1.0)
    for start in (100, 103):
        draws = zip(*(draw(start + k) for k in range(3)), strict=True)
        other.apply(tensors([np.float32((a + b + c) / 3) for a, b, c in draws]), whole)
    close(host(summed), host(whole))
    assert int(optimizer.iterations) == 2


def test_moving_average() -> None:
    optimizer = make("SGD", lr=RATE, use_ema=True, ema_momentum=0.5)
    theirs = keras.optimizers.SGD(RATE, use_ema=True, ema_momentum=0.5)
    mine, other = variables(), variables()
    for each, values in ((optimizer, mine), (theirs, other)):
        train(each, values, range(4))
        each.finalize_variable_values(values)
    close(host(mine), host(other))


def test_loss_scale_factor() -> None:
    optimizer, values = make("SGD", lr=RATE, loss_scale_factor=8.0), variables()
    optimizer.apply([8.0 * g for g in tensors(draw(100))], values)
    wanted = reference(ao.SGD(lr=RATE), range(1))
    close(host(values), [wanted[path] for path in PATHS])
    assert float(optimizer.scale_loss(1.0)) == 8.0


def test_loss_scale_optimizer() -> None:
    optimizer = keras.optimizers.LossScaleOptimizer(make("Adam", lr=RATE), initial_scale=16.0)
    values = variables()
    optimizer.build(values)

    def step(grads: list[Any]) -> None:
        if BACKEND != "jax":
            optimizer.apply(grads, values)
            return
        # On JAX this optimizer of Keras has only the pure form.
        targets = [values, optimizer.variables]
        old = [tensors(host(each)) for each in targets]
        new = optimizer.stateless_apply(old[1], grads, old[0])
        for variable, value in zip([*targets[0], *targets[1]], [*new[0], *new[1]], strict=True):
            variable.assign(value)

    step([16.0 * g for g in tensors(draw(100))])
    wanted = reference(ao.Adam(lr=RATE), range(1))
    close(host(values), [wanted[path] for path in PATHS])
    before = host(values)
    bad = draw(101)
    bad[0][0, 0] = np.inf
    step(tensors(bad))
    equal(host(values), before)
    assert float(optimizer.dynamic_scale) == 8.0 and int(optimizer.iterations) == 1


def test_exclude_from_weight_decay() -> None:
    optimizer, values = make("SGD", lr=1.0, weight_decay=0.5), variables()
    optimizer.exclude_from_weight_decay(var_names=["bias"], var_list=[values[2]])
    before = host(values)
    optimizer.apply(tensors([np.zeros_like(x) for x in before]), values)
    equal(host(values), [x if path in ("bias", "scale") else x / 2 for path, x in zip(
        PATHS, before, strict=True)])  # fmt: skip
    with pytest.raises(ValueError, match="has been built"):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])


@pytest.mark.parametrize("accumulate", [None, 2])
def test_nonfinite_gradients_can_be_skipped(accumulate: int | None) -> None:
    optimizer = make("Adam", lr=RATE, nonfinite="skip", gradient_accumulation_steps=accumulate)
    values, good = variables(), tensors(draw(100))
    for _ in range(accumulate or 1):
        optimizer.apply(good, values)
    before = host(values)
    bad = draw(101)
    bad[0][0, 0] = np.nan
    for _ in range(accumulate or 1):
        optimizer.apply(tensors(bad), values)
    equal(host(values), before)
    assert int(optimizer.iterations) == 1
    assert optimizer.skipped == 1


def test_training_that_diverges_goes_on() -> None:
    optimizer, values = make("DoG"), variables()
    for _ in range(3):
        optimizer.apply(tensors([np.full(shape, np.nan, "float32") for shape in SHAPES]), values)
    assert int(optimizer.iterations) == 3 and np.isnan(host(values)[0]).all()


def test_stateless_apply(name: str) -> None:
    stateful, values = make(name, lr=RATE), variables()
    pure, others = make(name, lr=RATE), variables()
    for each, own in ((stateful, values), (pure, others)):
        each.build(own)
    if BACKEND == "tensorflow":
        with pytest.raises(ValueError, match="not supported with the TensorFlow backend"):
            pure.stateless_apply([], [], [])
        return
    params, state = tensors(host(others)), tensors(host(pure.variables))
    for step in range(3):
        grads = tensors(draw(100 + step))
        params, state = pure.stateless_apply(state, grads, params)
    train(stateful, values, range(3))
    close(host(params), host(values))
    close(host(state), host(stateful.variables))
    equal(host(others), draw(0))


def test_schedules() -> None:
    decayed = keras.optimizers.schedules.ExponentialDecay(RATE, 1, 0.5)
    functions = [decayed, lambda step: RATE * 0.5**step]
    found = []
    for rate in functions:
        values = variables()
        train(make("SGD", lr=rate), values, range(4))
        found.append(host(values))
    wanted = reference(ao.SGD(lr=lambda step: RATE * 0.5**step), range(4))
    for each in found:
        close(each, [wanted[path] for path in PATHS])
    fixed = variables()
    train(make("SGD", lr=lambda: RATE), fixed, range(4))
    wanted = reference(ao.SGD(lr=RATE), range(4))
    close(host(fixed), [wanted[path] for path in PATHS])


@pytest.mark.parametrize(("name", "words"), SCHEDULES)
def test_schedules_of_this_library(name: str, words: dict[str, Any]) -> None:
    """Each gives the rates that it gives elsewhere, and is saved with the optimizer."""
    rate = make_schedule(name, words)
    values, opt = variables(), make("SGD", lr=rate)
    train(opt, values, range(6))
    wanted = reference(ao.SGD(lr=rate), range(6))
    close(host(values), [wanted[path] for path in PATHS])
    again = keras.optimizers.deserialize(keras.optimizers.serialize(opt))
    assert again.get_config() == opt.get_config()


def test_a_schedule_with_numbers_of_its_own() -> None:
    """It is refused: Keras feeds it no metric."""
    with pytest.raises(TypeError, match=r"Plateau.*has state"):
        make("SGD", lr=ao.schedules.Plateau(0.1))


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
def test_state_in_fewer_bits(storage: str) -> None:
    optimizer, values = make("Adam", lr=RATE, state_dtype=storage), variables()
    if storage == "int8" and TRACED:
        with pytest.raises(ValueError, match="serves NumPy and CuPy arrays"):
            optimizer.build(values)
        assert not optimizer.built
        return
    train(optimizer, values, range(4))
    wanted = reference(ao.Adam(lr=RATE, state_dtype=storage), range(4))
    (close if TRACED else equal)(host(values), [wanted[path] for path in PATHS])
    assert storage != "bfloat16" or "bfloat16" in {v.dtype for v in optimizer.variables}


def test_variables_with_the_same_name() -> None:
    values = [keras.Variable(np.ones(2), name=name) for name in ("a", "a", "b")]
    make("SGD", lr=0.5).apply(tensors([np.ones(2, "float32")] * 3), values)
    equal(host(values), [np.full(2, 0.5)] * 3)
