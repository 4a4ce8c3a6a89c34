"""Schedules: each registered one, for each hyperparameter, in configurations and files."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.config.registry import SCHEDULES
from command_line import call
from optimizers_under_test import make as optimizer
from optimizers_under_test import numeric
from schedules_under_test import CASES, EXAMPLES, IDS, NAMES, WARM, make

s = ao.schedules
STEPS = range(12)
every = pytest.mark.parametrize(("schedule", "kwargs"), CASES, ids=IDS)


def test_every_registered_schedule_is_tested() -> None:
    """And is public."""
    assert set(EXAMPLES) == set(NAMES)
    assert set(NAMES) <= set(s.__all__)


@every
def test_kinds_of_steps(schedule: str, kwargs: dict[str, Any]) -> None:
    """A number gives a float; a NumPy scalar and an array give what the numbers give."""
    made = make(schedule, kwargs)
    found = [made(step) for step in STEPS]
    assert all(type(value) is float and np.isfinite(value) for value in found)
    assert len(set(found)) > 1 or schedule in {"Plateau", "Scaled"}  # those of a number
    assert [float(made(np.int64(step))) for step in STEPS] == found
    np.testing.assert_array_equal(np.broadcast_to(made(np.array(STEPS)), len(STEPS)), found)
    with pytest.raises(TypeError, match="found the step 'x', wanted a number"):
        made("x")


@pytest.mark.needs("jax")
@every
def test_traced_steps(schedule: str, kwargs: dict[str, Any]) -> None:
    """A compiled function of a traced step, alone and over an array."""
    import jax
    import jax.numpy as jnp

    made = make(schedule, kwargs)
    wanted = [made(step) for step in STEPS]
    one = jax.jit(made)
    found = [float(one(jnp.asarray(step))) for step in STEPS]
    assert one._cache_size() == 1
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-7)
    # A number alone stays one, whatever the shape of the steps.
    rows = np.broadcast_to(jax.jit(made)(jnp.arange(12)), 12)
    np.testing.assert_allclose(rows, wanted, rtol=2e-6, atol=1e-7)


@pytest.mark.needs("jax")
@every
def test_scanned_steps(schedule: str, kwargs: dict[str, Any]) -> None:
    """Steps in a scan and steps of a jitted function, compiled once, agree with steps in place."""
    import jax
    import jax.numpy as jnp

    opt = ao.Adam(lr=make(schedule, kwargs), weight_decay=WARM)
    gradient = np.array([0.3, -1.0, 2.0])
    wanted = np.ones(3)
    for _ in range(8):
        opt.apply(gradient, wanted)
    pure = ao.Adam(lr=make(schedule, kwargs), weight_decay=WARM)

    def step(carry: tuple[Any, Any]) -> tuple[Any, Any]:
        params, state = pure.stateless_apply(carry[1], jnp.asarray(gradient, "float32"), carry[0])
        return params, state

    carry = jnp.ones(3, "float32"), pure.init_state(jnp.ones(3, "float32"))
    scanned, _ = jax.lax.scan(lambda c, _: (step(c), None), carry, None, length=8)
    one = jax.jit(step)
    for _ in range(8):
        carry = one(carry)
    assert one._cache_size() == 1
    np.testing.assert_allclose(carry[0], wanted, rtol=2e-6)
    np.testing.assert_allclose(scanned[0], wanted, rtol=2e-6)


@every
def test_configuration(schedule: str, kwargs: dict[str, Any]) -> None:
    """`repr`, configurations and JSON lead back to an equal schedule; so do copies."""
    made = make(schedule, kwargs)
    assert type(made).from_config(made.get_config()) == made
    assert eval(repr(made), vars(s)) == made
    text = json.dumps(s.serialize(made))
    again = s.deserialize(json.loads(text))
    assert again == made
    keras = {"module": "keras.optimizers.schedules", "registered_name": None, **json.loads(text)}
    assert s.deserialize(keras) == made
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert other == made
    assert made != make("LinearWarmup", {"warmup_target": 7.0, "warmup_steps": 1})


@every
def test_optimizer_with_a_schedule(schedule: str, kwargs: dict[str, Any]) -> None:
    """Its configuration, its `repr`, and what it shows."""
    made = make(schedule, kwargs)
    opt = ao.Adam(lr=made, groups=[ao.group("b", lr=made, beta_1=WARM)])
    config = opt.get_config()
    assert config["lr"] == s.serialize(made) == config["groups"][0]["lr"]
    again = ao.Adam.from_config(json.loads(json.dumps(config)))
    assert repr(again) == repr(opt)
    assert f"Adam(lr={made!r}, " in repr(opt)
    for step in STEPS:
        again.iterations = step
        assert again.lr == again.learning_rate == made(step)


@every
def test_files(schedule: str, kwargs: dict[str, Any], tmp_path: Path) -> None:
    """A run that goes on from a file is the one that never stopped: the counter is the position."""
    path, made = tmp_path / "w.h5", make(schedule, kwargs)
    settings = {"lr": made, "groups": [ao.group("b", lr=made, momentum=WARM)]}
    whole = ao.SGD(**settings)
    params = {"a": np.ones(3), "b": np.ones(2)}
    grads = {"a": np.array([0.3, -1.0, 2.0]), "b": np.array([1.0, -0.5])}
    for _ in range(3):
        whole.apply(grads, params)
    whole.save_weights(path)
    plain = ao.SGD()
    plain.load_weights(path)
    late = ao.SGD()
    late.init(copy.deepcopy(params))
    late.load_weights(path)
    listed = ao.SGD(**settings)
    listed.init(copy.deepcopy(params))
    listed.set_weights(whole.get_weights())
    resumed = [(opt, copy.deepcopy(params)) for opt in (ao.load(path), plain, late, listed)]
    for _ in range(5):
        whole.apply(grads, params)
    for opt, own in resumed:
        assert opt.iterations == 3
        for _ in range(5):
            opt.apply(grads, own)
        assert opt.get_config() == whole.get_config()
        for key in params:
            np.testing.assert_array_equal(own[key], params[key])
        assert opt.lr == whole.lr


def test_every_hyperparameter(name: str) -> None:
    """A schedule for any number does what setting the number before each step does."""
    params, grad = np.linspace(-1, 1, 5), np.array([3.0, -0.1, 0.0, 0.5, -7.0])
    for key in numeric(name):
        hyper = type(optimizer(name)).hyperparameters[key]
        values = (1.0, 2.0, 3.0) if hyper.integer else (0.25, 0.5, 0.75)
        if not hyper.integer and 0.25 not in hyper.interval:
            high, low = hyper.interval.high, hyper.interval.low
            values = tuple((high - v if np.isinf(low) else low + v) for v in values)
        schedule = s.PiecewiseConstantDecay([0, 1], list(values))
        opt, other = optimizer(name, **{key: schedule}), optimizer(name, **{key: values[0]})
        one, two = params.copy(), params.copy()
        with ao.engine("array"):  # some values ask for a loop of their own, slow to compile
            for value in values:
                setattr(other, key, value)
                assert getattr(opt, key) == value
                np.testing.assert_array_equal(opt.apply(grad, one), other.apply(grad, two))


@pytest.mark.needs("jax")
def test_every_hyperparameter_compiled(name: str) -> None:
    """In a compiled step too, which is compiled once."""
    import jax
    import jax.numpy as jnp

    grad = np.array([3.0, -0.1, 0.0, 0.5, -7.0], np.float32)
    ramp = s.LinearWarmup(0.75, 3, 0.25)
    declared = type(optimizer(name)).hyperparameters
    keys = [k for k in numeric(name) if not declared[k].integer and 0.25 in declared[k].interval]
    opt = optimizer(name, **dict.fromkeys(keys, ramp))
    host, wanted = optimizer(name, **dict.fromkeys(keys, ramp)), np.linspace(-1, 1, 5)
    params = jnp.asarray(wanted, "float32")
    state = opt.init_state(params)
    assert not set(state["hyper"]) & set(keys)
    step = jax.jit(lambda state, params: opt.stateless_apply(state, jnp.asarray(grad), params))
    for _ in range(4):
        host.apply(grad.astype(float), wanted)
        params, state = step(state, params)
    assert step._cache_size() == 1
    np.testing.assert_allclose(params, wanted, rtol=2e-4, atol=2e-5)


def test_own_schedules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of the user's is saved by its name once it is registered."""
    monkeypatch.setattr(SCHEDULES, "_classes", dict(SCHEDULES._classes))
    path = tmp_path / "w.h5"

    class Root(s.Schedule):
        start = s.number("Value of the first step.", "[0, inf)")

        def value(self, t: Any, xp: Any) -> Any:
            return self.start / xp.sqrt(1.0 + t)

    opt = ao.SGD(lr=Root(0.5))
    assert opt.get_config()["lr"] == Root(0.5)
    opt.apply(np.ones(2), np.ones(2))
    opt.save_weights(path)
    with pytest.raises(ValueError, match=r"w\.h5: saved with a schedule for lr .*Root.*construct"):
        ao.load(path)
    again = ao.SGD(lr=Root(0.25))
    again.load_weights(path)
    assert again.get_config()["lr"] == Root(0.25)
    assert s.register(Root) is Root
    opt.save_weights(path)
    assert ao.load(path).get_config()["lr"] == {"class_name": "Root", "config": {"start": 0.5}}


def test_parts_that_no_file_holds(tmp_path: Path) -> None:
    """A registered schedule of a function that is none."""
    path = tmp_path / "w.h5"
    opt = ao.SGD(lr=s.join([lambda step: [0.5, 0.25][int(step)], 0.1], [2]))
    assert [opt.get_config()["lr"]["class_name"], opt.lr] == ["Joined", 0.5]
    opt.apply(np.ones(2), np.ones(2))
    opt.save_weights(path)
    for load in (ao.load, ao.SGD().load_weights):
        with pytest.raises(ValueError, match=r"w\.h5.* schedule for lr .*lambda.*construct"):
            load(path)
    opt.load_weights(path)
    assert (opt.lr, opt.iterations) == (0.25, 1)


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: s.CosineDecay(0.1), TypeError, "CosineDecay needs decay_steps"),
    (lambda: s.CosineDecay(0.1, 0), ValueError, r"decay_steps must be a number in \(0, inf\), got"),
    (lambda: s.CosineDecay(float("nan"), 1), ValueError, "initial_learning_rate must be"),
    (lambda: s.CosineDecay(WARM, 1), TypeError, "initial_learning_rate must be a number"),
    (lambda: s.CosineDecay({"class_name": "CosineDecay", "config": {}}, 1), TypeError, "must be a"),
    (lambda: s.CosineDecay(0.1, 1, decay=1), TypeError, "no argument 'decay'"),
    (lambda: s.CosineDecay(0.1, 10, warmup_target=1, warmup_steps=1.5), ValueError, "integer"),
    (lambda: s.ExponentialDecay(0.1, 1, 1, staircase=1), TypeError, "staircase must be True or F"),
    (lambda: s.OneCycle(0.1, 10, anneal_strategy="sin"), ValueError, "'cos' or 'linear'"),
    (lambda: s.PiecewiseConstantDecay([1, 1], [1, 2, 3]), ValueError, "each greater than"),
    (lambda: s.PiecewiseConstantDecay([1], [1, 2, 3]), ValueError, "3 values for 1 boundaries, wa"),
    (lambda: s.PiecewiseConstantDecay([], [1]), ValueError, "a list of numbers"),
    (lambda: s.PiecewiseConstantDecay(1, [1]), TypeError, "a list of numbers"),
    (lambda: s.PiecewiseConstantDecay(["a"], [1, 2]), TypeError, "boundaries must be"),
    (lambda: s.join([WARM], [1]), ValueError, "1 schedules for 1 boundaries, wanted 2"),
    (lambda: s.join([WARM, 1], [1.5]), ValueError, "integers in"),
    (lambda: s.join([], [1]), ValueError, "a list of schedules"),
    (lambda: s.Joined(WARM, [1]), TypeError, "a list of schedules"),
    (lambda: s.scale("half", 2), TypeError, "a schedule or a finite number, got 'half'"),
    (lambda: s.scale(s.Plateau(0.1), 2), TypeError, "has state"),
    (lambda: s.join([WARM, s.Plateau(0.1)], [2]), TypeError, "has state"),
    (lambda: s.Plateau(0.1, factor=1.0), ValueError, r"factor must be a number in \(0, 1\)"),
    (lambda: s.serialize(len), ValueError, "wanted a schedule of a registered class"),
    (lambda: s.deserialize("CosineDecay"), TypeError, "wanted a dict"),
    (lambda: s.deserialize({"class_name": "Cosine", "config": {}}), ValueError, "did you mean"),
    (lambda: s.deserialize({"class_name": "CosineDecay"}), TypeError, "must be"),
    (lambda: s.register(int), TypeError, "lacks __call__, get_config, from_config"),
    (lambda: ao.SGD(lr={"a": 1}), TypeError, "SGD.lr: found {'a': 1}"),
    (lambda: ao.SGD(lr=s.CosineDecay), TypeError, "SGD.lr must be a number in .* got <class"),
    (lambda: s.scale(s.CosineDecay, 2), TypeError, "a schedule or a finite number, got <class"),
    (lambda: ao.SGD(lr=lambda: 0.1), TypeError, r"SGD\.lr: found .*, wanted a function of"),
    (lambda: setattr(ao.Adam(), "beta_1", lambda: 0.1), TypeError, r"Adam\.beta_1: found the s"),
    (lambda: ao.Adam(lr=lambda step, more: 0.1), TypeError, r"Adam\.lr.* \(missing .*'more'\)"),
    (lambda: ao.SGD(groups=[ao.group("a", lr=lambda: 0.1)]), TypeError, "lr: found the schedule"),
    (lambda: s.scale(lambda: 0.1, 2), TypeError, r"Scaled\..*: found the schedule"),
    (lambda: setattr(WARM, "warmup_steps", 3), AttributeError, "cannot be changed"),
    (lambda: ao.SGD(momentum=s.LinearWarmup(1.0, 1)).momentum, None, ""),
    (lambda: ao.SGD(lr=s.LinearWarmup(-1.0, 1, -1.0)).lr, ValueError, "at step 0: schedule of SGD"),
    (lambda: s.plot(0.1, 10, "x.png"), TypeError, "wanted a function of the step"),
    (lambda: s.plot(WARM, 0, "x.png"), ValueError, "found 0 steps"),
    (lambda: s.plot(WARM, 1.5, "x.png"), TypeError, "wanted an integer"),
    (lambda: s.plot(lambda t: float("nan"), 2, "x.png"), ValueError, "nan at step 0"),
]  # fmt: skip


@pytest.mark.parametrize(("call_it", "kind", "words"), BAD)
def test_bad_input(call_it: Callable[[], Any], kind: type[Exception] | None, words: str) -> None:
    """What is wrong is said at once; None stands for what is right."""
    if kind is None:
        call_it()
        return
    with pytest.raises(kind, match=words):
        call_it()


@pytest.mark.parametrize("t_mul", [1.5, 2.0, 3.0, 7.0, 10.0])
def test_restarts_at_the_very_step(t_mul: float) -> None:
    """Each fall begins at its first step, where a bare logarithm is rounded down at times."""
    schedule = s.CosineDecayRestarts(0.5, first_decay_steps=64, t_mul=t_mul)
    for n in range(1, 7):
        start = 64 * (t_mul**n - 1) / (t_mul - 1)
        assert start.is_integer()
        assert schedule(int(start)) == 0.5
        assert schedule(int(start) - 1) < 0.25


# ---- pictures


@pytest.mark.parametrize("steps", [1, 25, 5000])
def test_plot(steps: int, tmp_path: Path) -> None:
    """A PNG that is not one colour."""
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "rate.png"
    s.plot(s.OneCycle(0.1, 20), steps, path)
    pixels = image.imread(path)
    assert pixels.shape[:2] == (675, 1200)
    assert pixels.std() > 0.01


def test_plot_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ModuleNotFoundError, match=r"arrayoptim\[plot\]"):
        s.plot(WARM, 10, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers, lists, words and schedules as arguments."""
    pytest.importorskip("matplotlib")
    file, part = tmp_path / "x.png", json.dumps(s.serialize(WARM))
    for words, wanted in [
        (["linearwarmup", "warmup_target=0.5", "warmup_steps=4"], s.LinearWarmup(0.5, 4)),
        (["PiecewiseConstantDecay", "boundaries=[3]", "values=[1, 2]"],
         s.PiecewiseConstantDecay([3], [1, 2])),
        (["OneCycle", "max_learning_rate=1", "total_steps=9", "anneal_strategy=linear"],
         s.OneCycle(1, 9, anneal_strategy="linear")),
        (["Scaled", f"schedule={part}", "factor=2"], s.Scaled(WARM, 2)),
    ]:  # fmt: skip
        done = call(capsys, "plot-schedule", *words, "--steps", 10, "--output", file)
        assert (done.code, done.out) == (0, f"{wanted!r}\nwritten to {file}\n"), done.err
        assert file.read_bytes().startswith(b"\x89PNG")
        file.unlink()


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["Cosine"], 2, "did you mean 'CosineDecay'"),
        (["CosineDecay", "initial_learning_rate"], 2, "wanted KEY=VALUE"),
        (["CosineDecay", "decay_steps=1", "decay_steps=2"], 2, "given twice"),
        (["CosineDecay", "decay_steps=1"], 2, "needs initial_learning_rate"),
        (["LinearWarmup", "warmup_target=1", "warmup_steps=x"], 2, "must be a number"),
        (["LinearWarmup", "warmup_target=1", "warmup_steps=1", "--output", "no/x.png"], 1, "no/x"),
        (["LinearWarmup", "warmup_target=1", "warmup_steps=1", "--output", "x.foo"], 1, "foo"),
    ],
)
def test_bad_commands(
    words: list[str], code: int, complaint: str, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One line each."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    done = call(capsys, "plot-schedule", *words)
    assert done.code == code
    assert done.complaint
    assert complaint in done.err
    assert not list(tmp_path.iterdir())
