"""The stages that every optimizer has, through the public surface, on both host engines."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import BACKENDS, NUMPY, TestBackend
from optimizers_under_test import NAMES, draw, fused, make, same, train

SHAPES = [(40, 13), (), (300,), (0, 2)]
OPTIONS: list[dict[str, Any]] = [
    {"clipnorm": 0.5},
    {"clipvalue": 0.1, "l2": 0.01},
    {"weight_decay": 0.1, "ema_momentum": 0.9},
    {"clipnorm": 3.0, "clipvalue": 0.5, "l2": 0.01, "weight_decay": 0.1, "exclude": ["0", "2"]},
    {"state_dtype": "bfloat16"},
    {"state_dtype": "bfloat16", "stochastic_rounding": True, "seed": 7},
    {"state_dtype": "int8"},
    {"state_dtype": "int8", "stochastic_rounding": True, "ema_momentum": 0.5},
    {"kahan": True, "clipnorm": 1.0},
    {"clipnorm_per_tensor": 0.5, "clipnorm": 3.0, "agc": 0.1, "weight_decay": 0.1, "peak_lr": 0.5},
    {"constraint": ao.constraints.Box(-0.5, 0.75), "ema_momentum": 0.5},
]
HOSTS = [backend for backend in BACKENDS if "cpu" in backend.engines]


def label(value: Any) -> str:
    """Return what a test of these options, or of this data type, is called."""
    return value if isinstance(value, str) else "-".join(value)


def run(
    optimizer: Any, backend: TestBackend, dtype: str, steps: range = range(6), params: Any = None
) -> list[Any]:
    """Return the parameters after some steps."""
    params = backend.tree(draw(0, SHAPES), dtype) if params is None else params
    for step in steps:
        optimizer.apply(backend.tree(draw(step + 1, SHAPES), dtype), params)
    return params


DTYPES = ("float32", "float64", "bfloat16")
# Each option meets one data type: every pair would compile three times as many loops.
PAIRS = [(options, DTYPES[k % 3]) for k, options in enumerate(OPTIONS)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if fused(name)])
@pytest.mark.parametrize(("options", "dtype"), PAIRS, ids=label)
def test_engines_agree_to_the_last_bit(name: str, options: dict[str, Any], dtype: str) -> None:
    """The fused loop is the array engine, in every stage and form of state."""
    found = {}
    for engine in ("array", "cpu"):
        optimizer = make(name, **options)
        with ao.engine(engine):
            found[engine] = NUMPY.read(run(optimizer, NUMPY, dtype)), optimizer.get_weights()
    same(found["cpu"][0], found["array"][0])
    same(found["cpu"][1], found["array"][1])


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=label)
@pytest.mark.parametrize("backend", HOSTS, ids=str)
def test_resume_is_exact(
    name: str, options: dict[str, Any], backend: TestBackend, tmp_path: Path
) -> None:
    """A file, a list and a pickle each hold all that the next step needs."""
    whole = make(name, **options)
    params = run(whole, backend, "float32", range(3))
    whole.save_weights(tmp_path / "state.h5")
    loaded, listed = ao.load(tmp_path / "state.h5"), make(name, **options)
    listed.set_weights(whole.get_weights())
    pickled = pickle.loads(pickle.dumps(whole))
    starts = [backend.tree(backend.read(params)) for _ in range(3)]
    run(whole, backend, "float32", range(3, 6), params)
    for optimizer, start in zip((loaded, listed, pickled), starts, strict=True):
        run(optimizer, backend, "float32", range(3, 6), start)
        same(backend.read(start), backend.read(params))
        same(optimizer.get_weights(), whole.get_weights())


def test_a_mixed_tree_rounds_each_array_alike() -> None:
    """An array that the fused loop cannot serve leaves the random bits of the others alone."""
    found = []
    for engine in ("array", "auto"):
        wide = np.zeros((300, 2), np.float32)
        params = [wide[:, 0], np.ones(300, np.float32), np.ones((3, 5), np.float32)]
        optimizer = ao.Adam(state_dtype="bfloat16", stochastic_rounding=True)
        with ao.engine(engine):
            for step in range(3):
                optimizer.apply([draw(step, [p.shape])[0] for p in params], params)
        found.append(params)
    same(found[0], found[1])


def test_a_numpy_scalar_is_a_gradient() -> None:
    """What `np.mean` gives serves a 0-d parameter, on either engine."""
    for engine in ("array", "cpu"):
        p = np.zeros(())
        with ao.engine(engine):
            ao.SGD(lr=0.5, clipnorm=9.0).apply(np.mean(np.array([1.0, 3.0])), p)
        assert p == -1.0


def test_decoupled_decay_takes_its_share_of_the_parameter() -> None:
    """Without a gradient's push only the decay moves the parameter, by lr times its rate."""
    p = np.array([2.0, -4.0])
    ao.Adam(lr=0.1, weight_decay=0.5).apply(np.zeros(2), p)
    np.testing.assert_allclose(p, [1.9, -3.8], rtol=1e-15)


@pytest.mark.parametrize(("name", "plain"), [("AdamW", ao.Adam), ("NadamW", ao.Nadam)])
def test_the_w_is_a_default_of_weight_decay(
    name: str, plain: Any, backend: TestBackend, engine: str
) -> None:
    """The same computation, at every value; and one that stays away from biases."""
    for decay in ({}, {"weight_decay": 0.3}, {"weight_decay": 0.0}, {"exclude": "1"}):
        one, two = make(name, **decay), plain(**{"weight_decay": 0.01, **decay})
        a, b = backend.tree(draw(1)), backend.tree(draw(1))
        with ao.engine(engine):
            a = train(one, backend, a, range(3), "float64")
            b = train(two, backend, b, range(3), "float64")
        same(backend.read(a), backend.read(b))
        same(one.get_weights(), two.get_weights())
    assert make(name).get_config() == plain().get_config()
    assert "weight_decay=0.0" in repr(make(name, weight_decay=0))


def test_fully_decoupled_decay_is_relative_to_the_peak(backend: TestBackend, engine: str) -> None:
    """At the peak of lr it takes its whole rate, whatever lr is, and less where lr is less."""
    rate = ao.schedules.PiecewiseConstantDecay([0], [0.25, 0.125])
    p = backend.asarray(np.array([2.0, -4.0]))
    optimizer = ao.Adam(lr=rate, weight_decay=0.5, peak_lr=0.25)
    with ao.engine(engine):
        for left in (0.5, 0.5 * 0.75):
            p = optimizer.apply(backend.asarray(np.zeros(2)), p)
            np.testing.assert_allclose(backend.to_numpy(p), [2 * left, -4 * left], rtol=1e-15)
    state = optimizer.init_state(p)
    assert float(state["hyper"]["peak_lr"]) == 0.25
    pure, _ = optimizer.stateless_apply(state, backend.asarray(np.zeros(2)), p)
    np.testing.assert_allclose(backend.to_numpy(pure), [0.375, -0.75], rtol=1e-6)


def test_fully_decoupled_decay_of_a_group_and_of_a_rule() -> None:
    """A group's lr counts, and its own peak where it has one; a rule that decays follows too."""
    groups = [ao.group("1", lr=0.1), ao.group("2", lr=0.1, peak_lr=0.1)]
    params = [np.ones(1) for _ in range(3)]
    optimizer = ao.SGD(lr=0.5, weight_decay=0.25, peak_lr=0.5, groups=groups)
    optimizer.apply([np.zeros(1)] * 3, params)
    np.testing.assert_allclose(np.concatenate(params), [0.75, 0.95, 0.75], rtol=1e-15)
    one, two = np.ones(2), np.ones(2)
    ao.ScheduleFreeSGD(lr=0.5, weight_decay=0.25, peak_lr=0.5).apply(np.ones(2), one)
    ao.ScheduleFreeSGD(lr=0.5, weight_decay=0.5).apply(np.ones(2), two)
    same([one], [two])


def test_coupled_decay_is_part_of_the_gradient() -> None:
    """`l2` adds to the gradient, after clipping."""
    p, q = np.array([2.0, -4.0]), np.array([2.0, -4.0])
    ao.SGD(lr=0.1, l2=0.5, clipvalue=0.1).apply(np.array([3.0, 3.0]), p)
    ao.SGD(lr=0.1).apply(np.array([0.1, 0.1]) + 0.5 * q, q)
    np.testing.assert_allclose(p, q, rtol=1e-15)


def test_excluded_paths_do_not_decay() -> None:
    """Patterns reach names at any depth, and one that reaches nothing is an error."""
    params = {"layer": {"kernel": np.ones(2), "bias": np.ones(2)}, "bias": np.ones(1)}
    zeros = {"layer": {"kernel": np.zeros(2), "bias": np.zeros(2)}, "bias": np.zeros(1)}
    ao.SGD(lr=0.1, weight_decay=1.0, exclude="*/bias").apply(zeros, params)
    assert params["layer"]["kernel"].tolist() == [0.9, 0.9]
    assert params["layer"]["bias"].tolist() == [1.0, 1.0] and params["bias"].tolist() == [1.0]
    with pytest.raises(ValueError, match=r"'\*norm\*' matches none of bias, layer/bias"):
        ao.SGD(weight_decay=1.0, exclude=["*norm*"]).init(params)


def test_averages_follow_the_parameters(backend: TestBackend) -> None:
    """The average starts as the parameter and is given back in the parameters' shape."""
    params = {"w": backend.asarray([1.0, 2.0], "float32")}
    optimizer = ao.SGD(lr=1.0, ema_momentum=0.75)
    for _ in range(2):
        params = optimizer.apply({"w": backend.asarray([1.0, 1.0], "float32")}, params)
    wanted = [0.75 * (0.75 * p + 0.25 * (p - 1)) + 0.25 * (p - 2) for p in (1.0, 2.0)]
    average = optimizer.averages(params)
    np.testing.assert_allclose(backend.to_numpy(average["w"]), wanted, rtol=1e-6)
    other = ao.SGD()
    other.init(params)
    with pytest.raises(ValueError, match="ema_momentum is None"):
        other.averages(params)


def test_slots_cannot_change_under_way() -> None:
    """A hyperparameter that asks for other slots says so, and the old state stays."""
    p = np.ones(3)
    optimizer = ao.Adam()
    optimizer.apply(np.ones(3), p)
    before, weights = p.copy(), optimizer.get_weights()
    optimizer.amsgrad = True
    with pytest.raises(ValueError, match=r"needs momentum .*velocity_hat.*reset\(\)"):
        optimizer.apply(np.ones(3), p)
    same([p, *optimizer.get_weights()], [before, *weights])
    optimizer.amsgrad = False
    optimizer.apply(np.ones(3), p)
    assert optimizer.iterations == 2


def test_choice_of_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine asked for serves, or says which array it cannot serve and why."""
    strided = np.ones((3, 2))[:, 0]
    grads, params = [np.ones(2), np.ones(3)], [np.ones(2), strided]
    refused = pytest.raises(ValueError, match=r"cannot serve parameter '1': .*not contiguous")
    with ao.engine("cpu"), refused:
        ao.SGD().apply(grads, params)
    unknown = pytest.raises(ValueError, match="found 'gpu9', wanted one of auto, array, cpu, gpu")
    with unknown, ao.engine("gpu9"):
        pass
    monkeypatch.setenv("ARRAYOPTIM_ENGINE", "fast")
    with pytest.raises(ValueError, match="ARRAYOPTIM_ENGINE: found 'fast'"):
        ao.SGD().apply(np.ones(2), np.ones(2))


def test_explain_names_engines_and_reasons() -> None:
    """Each group of arrays has an engine, a reason, its bytes and, once stepped, a bandwidth."""
    params = [np.ones((50, 4), np.float32), np.ones((3, 2), np.float32)[:, 0]]
    optimizer = ao.Adam()
    fused, plain = ao.explain(params, optimizer).groups
    assert (fused.engine, fused.bytes, fused.bandwidth) == ("cpu", 200 * 4 * 7, None)
    assert plain.engine == "array" and "not contiguous" in plain.reason
    optimizer.apply([p.copy() for p in params], params)
    assert ao.explain(params, optimizer).groups[0].bandwidth > 0
    with ao.engine("array"):
        assert {group.engine for group in ao.explain(params, "sgd").groups} == {"array"}


def test_explain_counts_codes_and_complex_numbers() -> None:
    """A code is one byte, the exponent of 256 of them two; both are read and written."""
    params, n = [np.zeros(65536, np.float32)], 65536
    codes = 2 * 2 * (n + 2 * n // 256)
    (group,) = ao.explain(params, ao.Adam(state_dtype="int8")).groups
    assert group.bytes == 3 * 4 * n + codes
    for dtype in ("complex64", "complex128"):
        (group,) = ao.explain([np.zeros(8, dtype)], ao.SGD(momentum=0.9)).groups
        assert group.bytes == 5 * np.zeros(8, dtype).nbytes


def test_explain_leaves_an_optimizer_without_state() -> None:
    """It may step other parameters afterwards, and what it has loaded is still to come."""
    optimizer, first = ao.Adam(lr=lambda it: 0.1), [np.zeros(4)]
    assert str(ao.explain(first, optimizer)).startswith(repr(optimizer))
    assert not optimizer.built
    optimizer.apply({"w": np.ones(2)}, {"w": np.zeros(2)})
    other = ao.Adam()
    other.set_weights(optimizer.get_weights())
    ao.explain({"w": np.zeros(2)}, other)
    other.init({"w": np.zeros(2)})
    assert other.iterations == 1
    with pytest.raises(ValueError, match="are not the ones"):
        ao.explain(first, optimizer)


def test_explain_looks_inside_wrappers() -> None:
    """What is said is said of the optimizer inside."""
    params = [np.zeros((50, 4), np.float32)]
    wrapper = ao.Lookahead(ao.GradientAccumulation("adam"))
    assert ao.explain(params, wrapper) == ao.explain(params, "adam")
    assert not wrapper.built
    for _ in range(4):
        wrapper.apply([p.copy() for p in params], params)
    assert ao.explain(params, wrapper).groups[0].bandwidth > 0


@pytest.mark.parametrize("peak", [None, 0.5])
def test_decay_of_what_adam_steps(peak: float | None) -> None:
    """Muon's other rule has weight decay of its own, exclusions and groups as usual."""
    shares = {"matrix": 0.5, "vector": 0.25, "kept": 0.0, "grouped": 0.125}
    options = {"exclude": "kept", "groups": [ao.group("grouped", adam_weight_decay=0.125)]}
    optimizer = ao.Muon(lr=0.1, weight_decay=0.5, adam_weight_decay=0.25, peak_lr=peak, **options)
    params = {name: np.ones((2, 2) if name == "matrix" else 2) for name in shares}
    optimizer.apply({name: np.zeros_like(p) for name, p in params.items()}, params)
    for name, share in shares.items():
        np.testing.assert_allclose(params[name], 1.0 - 0.1 * share / (peak or 1.0), rtol=1e-12)


def test_half_a_step_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error inside a step neither a step nor a file goes on from it."""
    params = [np.ones(2), np.ones((3, 2))[:, 0]]
    optimizer = ao.SGD()
    optimizer.init(params)
    weights = optimizer.get_weights()

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("no luck")

    with monkeypatch.context() as patch:
        patch.setattr("arrayoptim.engines.choice.InPlace.__call__", fail)
        with pytest.raises(ValueError, match="no luck"):
            optimizer.apply([np.ones(2), np.ones(3)], params)
    with pytest.raises(RuntimeError, match="interrupted half-way"):
        optimizer.apply([np.ones(2), np.ones(3)], params)
    with pytest.raises(RuntimeError, match="interrupted half-way"):
        optimizer.save_weights("never.h5")
    optimizer.set_weights(weights)
    optimizer.apply([np.ones(2), np.ones(3)], params)
    assert optimizer.iterations == 1
