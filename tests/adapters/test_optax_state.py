"""Changing between optax's optimizers and these without losing moments."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from optimizers_under_test import draw, same

optax = pytest.importorskip("optax")
jax = pytest.importorskip("jax")
jnp = jax.numpy
contrib = pytest.importorskip("optax.contrib")
pytestmark = pytest.mark.needs("jax")

ROWS: dict[str, tuple[Any, Any]] = {
    "adam": (ao.Adam(epsilon=0), optax.adam(0.001, eps=0)),
    "adamw": (ao.AdamW(epsilon=0, weight_decay=0.1), optax.adamw(0.001, eps=0, weight_decay=0.1)),
    "sgd": (ao.SGD(momentum=0.9, nesterov=True), optax.sgd(0.01, 0.9, nesterov=True)),
    "plain": (ao.SGD(), optax.sgd(0.01)),
    "rmsprop": (ao.RMSprop(), optax.rmsprop(0.001, eps_in_sqrt=False)),
    "rmsprop_momentum": (
        ao.RMSprop(centered=True, momentum=0.5),
        optax.rmsprop(0.001, eps_in_sqrt=False, centered=True, momentum=0.5),
    ),
    "adagrad": (
        ao.Adagrad(epsilon=0), optax.adagrad(0.01, eps=0, initial_accumulator_value=0.0)
    ),
    "adadelta": (ao.Adadelta(rho=0.9, epsilon=1e-6), optax.adadelta(1.0)),
    "adamax": (ao.Adamax(epsilon=0), optax.adamax(0.002, eps=0)),
    "nadam": (ao.Nadam(schedule_decay=1e6), optax.nadam(0.002)),
    "nadamw": (
        ao.NadamW(schedule_decay=1e6, weight_decay=0.1), optax.nadamw(0.002, weight_decay=0.1)
    ),
    "radam": (ao.RAdam(), optax.radam(0.001)),
    "adabelief": (ao.AdaBelief(), optax.adabelief(0.001)),
    "ademamix": (ao.AdEMAMix(), contrib.ademamix(0.001)),
    "adopt": (ao.ADOPT(), contrib.adopt(0.001)),
    "lion": (ao.Lion(weight_decay=1e-3), optax.lion(0.0001)),
    "signum": (ao.Signum(), optax.signum(0.0001)),
    "lamb": (ao.LAMB(), optax.lamb(0.001)),
    "lars": (ao.LARS(epsilon=0), optax.lars(0.1)),
}  # fmt: skip
UNCOUNTED = {"sgd", "plain", "rmsprop", "rmsprop_momentum", "adagrad", "adadelta", "lars"}


def tree(seed: int) -> dict[str, Any]:
    w, b = draw(seed, [(2, 3), (2,)])
    return {"w": jnp.asarray(w), "b": jnp.asarray(b)}


GRADS = [tree(10 + t) for t in range(10)]


def in_optax(tx: Any, params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
    update = jax.jit(tx.update)
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def in_ours(opt: Any, params: Any, grads: Any) -> Any:
    for g in grads:
        params = opt.apply(g, params)
    return params


def fresh(opt: Any) -> Any:
    return type(opt).from_config(opt.get_config())


def close(found: Any, wanted: Any, rtol: float = 1e-12) -> None:
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=1e-13)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("row", ROWS)
def test_there_and_back(row: str) -> None:
    """Five steps on one side and five on the other are ten of either, both ways."""
    ours, tx = (fresh(ROWS[row][0]), ROWS[row][1])
    whole = in_ours(fresh(ours), tree(1), GRADS)
    params, state = in_optax(tx, tree(1), tx.init(tree(1)), GRADS[:5])
    report = ao.optax.load_state(ours, state, params)
    assert not report.faults
    assert ours.iterations == (0 if row in UNCOUNTED else 5)
    assert any("no step count" in note for note in report.notes) == (row in UNCOUNTED)
    close(in_ours(ours, params, GRADS[5:]), whole)
    ours = fresh(ours)
    params = in_ours(ours, tree(1), GRADS[:5])
    state = ao.optax.export_state(ours, tx, params)
    assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, tx.init(params))
    close(in_optax(tx, params, state, GRADS[5:])[0], whole)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("preset", [None, "optax"])
def test_schedules_of_what_nadam_multiplies(preset: str | None) -> None:
    """Its product of momenta follows from the count, whether they are numbers or functions."""
    words: dict[str, Any] = {"beta_1": lambda it: 0.9, "schedule_decay": lambda it: 1e6}
    whole = in_ours(ao.Nadam(preset=preset, **words), tree(1), GRADS)
    params, state = in_optax(
        optax.nadam(0.002), tree(1), optax.nadam(0.002).init(tree(1)), GRADS[:5]
    )
    ours = ao.Nadam(preset=preset, **words)
    assert not ao.optax.load_state(ours, state, params).faults
    close(in_ours(ours, params, GRADS[5:]), whole)


def test_every_moment_goes_over() -> None:
    """What is on the way back is what went there, to the last bit."""
    for ours, tx in (ROWS["ademamix"], ROWS["rmsprop_momentum"], ROWS["adam"]):
        params, state = in_optax(tx, tree(1), tx.init(tree(1)), GRADS[:3])
        opt = fresh(ours)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ao.optax.load_state(opt, state, params)
            opt.iterations = 3
            back = ao.optax.export_state(opt, tx, params)
        same(*([np.asarray(x) for x in jax.tree.leaves(t)] for t in (back, state)))


def test_wherever_it_is_in_the_state() -> None:
    """Chained, accumulated, injected, masked and partitioned; counts besides are set too."""
    schedule = optax.linear_schedule(0.1, 0.2, 20)
    inner = optax.inject_hyperparams(optax.adam)(learning_rate=schedule, eps=0.0)
    parts = {"a": inner, "b": optax.masked(optax.adam(schedule, eps=0.0), {"w": False, "b": True})}
    tx = optax.chain(
        optax.clip_by_global_norm(1.0), optax.multi_transform(parts, {"w": "a", "b": "b"})
    )
    tx = optax.MultiSteps(tx, 1)
    ours = ao.Adam(lr=lambda it: 0.1 + 0.005 * it, epsilon=0, clipnorm=1.0)
    whole = in_ours(fresh(ours), tree(1), GRADS)
    params, state = in_optax(tx, tree(1), tx.init(tree(1)), GRADS[:5])
    ao.optax.load_state(ours, state, params)
    back = ao.optax.export_state(ours, tx, params)
    assert [x.tolist() for x in jax.tree.leaves(back) if x.dtype == "int32"] == [
        x.tolist() for x in jax.tree.leaves(state) if x.dtype == "int32"
    ]
    close(in_optax(tx, params, back, GRADS[5:])[0], whole, rtol=1e-6)
    close(in_ours(ours, params, GRADS[5:]), whole, rtol=1e-6)


def test_other_arrays_and_the_pure_form() -> None:
    """From optax to NumPy, to a compiled step, and from that to a file's state."""
    ours, tx = ROWS["adam"]
    whole = in_ours(fresh(ours), tree(1), GRADS)
    params, state = in_optax(tx, tree(1), tx.init(tree(1)), GRADS[:5])
    opt = fresh(ours)
    arrays = {key: np.array(x) for key, x in params.items()}
    ao.optax.load_state(opt, state, arrays)
    wrapped = ao.optax.wrap(opt)
    close(
        in_ours(opt, arrays, [{k: np.asarray(x) for k, x in g.items()} for g in GRADS[5:]]), whole
    )
    held = wrapped.init(params)
    held["hyper"]["lr"] = jnp.asarray(0.002)
    found, held = in_optax(wrapped, params, held, GRADS[5:8])
    again = fresh(ours)
    report = ao.optax.load_state(again, (optax.EmptyState(), held), found)
    assert not report.faults and again.iterations == 8 and again.lr == 0.002
    same([np.asarray(x) for x in jax.tree.leaves(held["slots"])], again.get_weights()[1:])


def test_what_differs_is_said() -> None:
    """Epsilon's place, a momentum that includes the learning rate, another maximum."""
    for ours, theirs, words in (
        (ao.Adam(), optax.adam(0.1), "after it in optax; with epsilon 0"),
        (ao.SGD(momentum=0.9), optax.sgd(0.1, 0.9), "includes the learning rate"),
        (ao.Adam(amsgrad=True, epsilon=0), optax.amsgrad(0.1), "running maximum"),
    ):
        with pytest.warns(UserWarning, match=words):
            report = ao.optax.load_state(ours, theirs.init(tree(1)), tree(1))
        assert any(words in note for note in report.notes)
        with pytest.warns(UserWarning, match=words):
            ao.optax.export_state(ours, theirs, tree(1))


def test_16_bits() -> None:
    """Float32 moments are rounded on the way to optax, and it is said; back they are widened."""
    params = {key: x.astype("bfloat16") for key, x in tree(1).items()}
    grads = {key: x.astype("bfloat16") for key, x in tree(2).items()}
    ours, theirs = ao.Lion(), optax.lion(0.1)
    ours.apply(grads, params)
    with pytest.warns(UserWarning, match="rounded to bfloat16"):
        state = ao.optax.export_state(ours, theirs, params)
    again = ao.Lion()
    assert not ao.optax.load_state(again, state, params).faults
    again.apply(grads, params)
    assert again.weights[-1].dtype == "float32" and again.iterations == 2


def test_refusals() -> None:
    """A state that does not fit is an error, and changes nothing."""
    params, opt = tree(1), ao.Adam(epsilon=0)
    opt.apply(tree(2), jax.tree.map(jnp.array, params))
    before = opt.get_weights()
    adam = optax.adam(0.1).init(params)
    load, export = ao.optax.load_state, ao.optax.export_state
    for state, words in (
        (optax.lion(0.1).init(params), "nothing for momentum, velocity .* found ScaleByLionState"),
        (optax.adam(0.1).init({"w": params["w"]}), "missing: momentum of b"),
        (optax.adam(0.1).init({**params, "c": params["w"]}), "unexpected: momentum of c"),
        (optax.adam(0.1).init({**params, "b": jnp.ones(5)}), r"misshapen: .*'b': found shape \(5,"),
        ((adam, optax.ema(0.9).init(params)._replace(ema=params)), "also has .*cannot use;"),
        ((adam[0], adam[0]._replace(count=jnp.asarray(3))), r"step counts \[0, 3\], wanted one"),
    ):
        with pytest.raises(ValueError, match=words):
            load(opt, state, params)
    same(opt.get_weights(), before)
    both = (adam, optax.ema(0.9).init(params)._replace(ema=params))
    assert any("not loaded" in note for note in load(opt, both, params, strict=False).notes)
    notes = load(opt, optax.lion(0.1).init(params), params, strict=False).notes
    assert "found nothing for velocity" in notes
    with pytest.raises(TypeError, match=r"found Ftrl\(.*wanted one whose moments .*AdEMAMix"):
        load(ao.Ftrl(), adam, params)
    with pytest.raises(TypeError, match="wanted an arrayoptim optimizer"):
        load(optax.adam(0.1), adam, params)
    with pytest.raises(ValueError, match="group with its own optimizer"):
        load(ao.Adam(groups=[ao.group("w", optimizer=ao.SGD())]), adam, params)
    with pytest.raises(ValueError, match="has the state ramped_momentum"):
        load(ao.SGD(mom_iter_max=5), optax.sgd(0.1).init(params), params)
    with pytest.raises(ValueError, match="has 8-bit slots"):
        load(ao.Adam(state_dtype="int8"), adam, params)
    with pytest.raises(ValueError, match="at lr=0"):
        load(ao.SGD(lr=0.0, momentum=0.9), optax.sgd(0.1, 0.9).init(params), params)
    values = jnp.ones(2, "complex64")
    with pytest.raises(ValueError, match="complex"):
        load(ao.Adam(), optax.adam(0.1).init(values), values)
    with pytest.raises(ValueError, match="2 states of this library"):
        load(ao.Lion(), [ao.optax.Lion().init(params)] * 2, params)
    with pytest.raises(ValueError, match="cannot hold momentum of b, momentum of w"):
        export(opt, optax.rmsprop(0.1), params)
    with pytest.raises(ValueError, match="has no state yet"):
        export(ao.Adam(), optax.adam(0.1), params)
    with pytest.raises(ValueError, match=r"'c': wanted state of shape \(2,\), found none"):
        export(opt, optax.adam(0.1), {**params, "c": params["b"]})
