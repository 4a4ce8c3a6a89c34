"""Many models in one step: the bits of as many optimizers, each with its own hyperparameters."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from optimizers_under_test import NAMES, cls_of, forms

MODELS, STEPS = 4, 4
RATES = [0.1, 0.02, 0.3, 0.04]
FACTORS = (1.0, 0.9, 0.8, 0.95)

Tree = dict[str, Any]


def drawn(rng: np.random.Generator, dtype: str = "float64") -> Tree:
    """Return arrays of one model, a matrix, a vector and a number among them."""
    shapes: dict[str, tuple[int, ...]] = {"w": (5, 3), "b": (3,), "s": ()}
    return {k: np.asarray(rng.normal(size=n), dtype) for k, n in shapes.items()}


def stacked(trees: list[Tree]) -> Tree:
    """Return the arrays of all models."""
    return {k: np.stack([tree[k] for tree in trees]) for k in trees[0]}


class Race:
    """Many models at once, beside as many optimizers."""

    def __init__(self, name: str, dtype: str = "float64", **vary: Any) -> None:
        self.rng, self.dtype = np.random.default_rng(5), dtype
        each = [
            {k: v[m] if isinstance(v, list) else v for k, v in vary.items()} for m in range(MODELS)
        ]
        self.many = cls_of(name)(models=MODELS, **vary)
        self.single = [cls_of(name)(**kwargs) for kwargs in each]
        self.parts = [drawn(self.rng, dtype) for _ in range(MODELS)]
        self.params = stacked(self.parts)

    def run(
        self, steps: int = STEPS, spoil: Callable[[int, list[Tree]], None] | None = None
    ) -> None:
        """Step both."""
        for step in range(steps):
            grads = [drawn(self.rng, self.dtype) for _ in range(MODELS)]
            if spoil is not None:
                spoil(step, grads)
            self.many.apply(stacked(grads), self.params)
            for optimizer, g, p in zip(self.single, grads, self.parts, strict=True):
                optimizer.apply(g, p)

    def require_equal(self) -> None:
        """Compare all bits."""
        wanted = stacked(self.parts)
        for name, found in self.params.items():
            np.testing.assert_array_equal(found, wanted[name], err_msg=name)


def varied(name: str, preset: str | None) -> dict[str, Any]:
    """Return a value for each model of every number of a class that may have several."""
    cls = cls_of(name)
    fixed = {} if preset is None else {"preset": preset}
    base, found = cls(**fixed), dict[str, Any](fixed)
    for key, declared in cls.hyperparameters.items():
        value = base._hyper[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        own = declared.numeric and declared.owner != "Options" and number
        # A number that is 0 may choose the rule.
        if not own or not value or key in ("initial_accumulator_value", "d0"):
            continue
        values = [1, 2, 1, 3] if declared.integer else [value * f for f in FACTORS]
        try:
            for each in values:
                cls(**fixed, **{key: each})
        except ValueError:
            continue
        found[key] = values
    return found


CASES = [(name, preset) for name in NAMES for preset in [None, *forms(name)]]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), CASES)
@pytest.mark.parametrize("engine", ["auto", "array"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_class_steps_models_as_single_optimizers(
    name: str, preset: str | None, engine: str, dtype: str
) -> None:
    """With a value of each model for everything that takes one, clipping and decay included."""
    extra = {"weight_decay": [0.0, 0.01, 0.02, 0.03], "clipnorm": [1.0, 2.0, 0.5, 0.0]}
    with ao.engine(engine):
        race = Race(name, dtype, **{**varied(name, preset), **extra})
        race.run()
    race.require_equal()


@pytest.mark.parametrize("name", ["Adam", "LAMB", "DoG", "Adafactor", "Muon", "Nadam"])
def test_models_step_as_single_optimizers(name: str) -> None:
    """One class of each kind: elementwise, by norms, by totals, by matrices, with numbers kept."""
    race = Race(name, "float32", lr=RATES, clipnorm=[1.0, 2.0, 0.5, 0.0])
    race.run()
    race.require_equal()


OPTIONS: dict[str, dict[str, Any]] = {
    "average": {"ema_momentum": [0.9, 0.8, 0.7, 0.6]},
    "agc": {"agc": [0.01, 0.1, 1.0, 0.5]},
    "clips": {"clipnorm_per_tensor": [0.1, 1.0, 2.0, 0.5], "clipvalue": [0.1, 0.2, 0.0, 0.3]},
    "l2": {"l2": [0.1, 0.2, 0.0, 0.3], "exclude": "b"},
    "int8": {"state_dtype": "int8"},
    "bfloat16": {"state_dtype": "bfloat16"},
    "cautious": {"cautious": True},
    "constraint": {"constraint": "nonneg"},
    "decay": {"decay": [0.1, 0.2, 0.0, 0.1], "peak_lr": 0.4, "weight_decay": 0.1},
    "schedule": {"weight_decay": ao.schedules.CosineDecay(0.1, 10)},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_hold_for_each_model(option: str) -> None:
    """Also those whose numbers come from the gradients or the parameters of a model."""
    race = Race("Adam", "float32", lr=RATES, **OPTIONS[option])
    race.run()
    race.require_equal()
    if option == "average":
        found = race.many.averages(race.params)
        wanted = stacked([o.averages(p) for o, p in zip(race.single, race.parts, strict=True)])
        assert all(np.array_equal(found[k], wanted[k]) for k in wanted)
    grads = [drawn(race.rng, "float32") for _ in range(MODELS)]
    found = race.many.get_gradients(lambda p: (0.0, stacked(grads)), race.params)
    pairs = zip(race.single, grads, race.parts, strict=True)
    wanted = stacked([o.get_gradients(lambda p, g=g: (0.0, g), p) for o, g, p in pairs])
    assert all(np.array_equal(found[k], wanted[k]) for k in wanted)


def test_schedules_of_single_models() -> None:
    """Numbers, registered schedules and functions stand beside each other."""
    race = Race("Adam", lr=[ao.schedules.CosineDecay(0.1, 10), 0.2, lambda t: 0.1 / (t + 1), 0.3])
    race.run()
    race.require_equal()
    np.testing.assert_array_equal(race.many.lr, [o.lr for o in race.single])


def test_plateaus_of_single_models() -> None:
    """A metric feeds all, or one each."""
    plateau = ao.schedules.Plateau(0.5, factor=0.5, patience=1)
    race = Race("SGD", lr=[plateau, plateau, 0.1, 0.2])
    race.run(1)
    for metrics in ([1.0, 1.0, 1.0, 1.0], [0.5, 1.0, 1.0, 1.0], [0.4, 1.0, 1.0, 1.0]):
        race.many.observe(metrics)
        for optimizer, metric in zip(race.single[:2], metrics, strict=False):
            optimizer.observe(metric)
    race.run()
    race.require_equal()
    np.testing.assert_array_equal(race.many.lr, [0.5, race.single[1].lr, 0.1, 0.2])
    assert race.single[1].lr < 0.5
    shared = ao.SGD(plateau, models=2)
    shared.init(np.ones((2, 3)))
    with pytest.raises(ValueError, match="one metric per model, but a schedule that all"):
        shared.observe([1.0, 2.0])


def test_groups_of_models() -> None:
    """Patterns are of the arrays' paths, and groups have numbers of each model too."""
    many = ao.Adam(
        RATES,
        models=MODELS,
        groups=[
            ao.group("b", lr=[0.01, 0.02, 0.03, 0.04]),
            ao.group("s", optimizer=ao.SGD(RATES, momentum=0.9, models=MODELS)),
        ],
    )
    single = [
        ao.Adam(
            rate,
            groups=[
                ao.group("b", lr=0.01 * (m + 1)),
                ao.group("s", optimizer=ao.SGD(rate, momentum=0.9)),
            ],
        )
        for m, rate in enumerate(RATES)
    ]
    race = Race("Adam", lr=RATES)
    race.many, race.single = many, single
    race.run()
    race.require_equal()
    assert many.take_model(2).get_config() == single[2].get_config()


@pytest.mark.parametrize("name", ["Adam", "DoG", "Nadam"])
def test_a_model_that_is_not_finite_is_left_out_alone(name: str) -> None:
    """It keeps its count and its numbers; the others go on."""

    def spoil(step: int, grads: list[Tree]) -> None:
        if step in (1, 2):
            grads[2]["b"][0] = np.nan
        if step == 2:
            grads[0]["w"][:] = np.inf

    race = Race(name, "float32", lr=RATES, nonfinite="skip")
    race.run(spoil=spoil)
    race.require_equal()
    assert race.many.skipped == 3
    assert [race.many.take_model(m).iterations for m in range(MODELS)] == [3, 4, 2, 4]
    race.many.nonfinite = "raise"
    with pytest.raises(ValueError, match=r"of models \[2\] has a NaN"):
        race.run(1, lambda step, grads: spoil(1, grads))


@pytest.mark.parametrize("name", ["Adam", "DoG", "Adafactor"])
def test_files_and_copies_go_on(name: str, tmp_path: Path) -> None:
    """Weights, files, checkpoints, configurations, copies and pickles."""
    race = Race(name, "float32", lr=RATES, clipnorm=[1.0, 2.0, 3.0, 0.0], nonfinite="skip")
    race.run(spoil=lambda step, grads: grads[1]["b"].fill(np.nan if step == 1 else 1.0))
    race.many.save_weights(tmp_path / "many.h5")
    ao.save_checkpoint(tmp_path / "both.h5", race.params, race.many)
    empty = {k: np.zeros_like(x) for k, x in race.params.items()}
    restored, from_checkpoint, _ = ao.load_checkpoint(tmp_path / "both.h5", empty)
    listed = type(race.many).from_config(race.many.get_config())
    listed.init(race.params)
    listed.set_weights(race.many.get_weights())
    others = [ao.load(tmp_path / "many.h5"), copy.deepcopy(race.many), listed]
    others.append(pickle.loads(pickle.dumps(race.many)))
    assert all(o.get_config() == race.many.get_config() for o in others)
    before = [{k: x.copy() for k, x in race.params.items()} for _ in others]
    grads = stacked([drawn(race.rng, "float32") for _ in range(MODELS)])
    race.many.apply(grads, race.params)
    from_checkpoint.apply(grads, restored)
    for optimizer, params in [*zip(others, before, strict=True)]:
        optimizer.apply(grads, params)
    for params in (*before, restored):
        assert all(np.array_equal(params[k], x) for k, x in race.params.items())


@pytest.mark.parametrize("name", ["Adam", "DoG", "Muon"])
def test_one_model_is_taken_out_and_put_in(name: str) -> None:
    """As in training of populations: a copy of the best takes the place of the worst."""
    race = Race(name, "float32", lr=RATES, clipnorm=[1.0, 2.0, 3.0, 0.0])
    race.run()
    best = race.many.take_model(1)
    assert (best.iterations, best.get_config()) == (STEPS, race.single[1].get_config())
    best.lr *= 1.25
    race.many.put_model(3, best)
    race.single[3], race.parts[3] = copy.deepcopy(best), copy.deepcopy(race.parts[1])
    for k, x in race.params.items():
        x[3] = race.parts[3][k]
    race.run()
    race.require_equal()
    np.testing.assert_array_equal(race.many.lr, [0.1, 0.02, 0.3, 0.025])
    fresh, params = cls_of(name)(lr=0.05, clipnorm=1.0), drawn(race.rng, "float32")
    fresh.apply(drawn(race.rng, "float32"), params)
    race.many.put_model(0, fresh)
    for k, x in race.params.items():
        x[0] = params[k]
    race.single[0], race.parts[0] = fresh, params
    race.run()
    race.require_equal()
    assert [race.many.take_model(m).iterations for m in range(MODELS)] == [5, 12, 12, 12]


def test_memory_of_any_kind() -> None:
    """Orders, gaps, dtypes, missing and changing gradients, and such as are parameters."""
    params = {
        "a": np.asfortranarray(np.ones((2, 3, 4))),
        "b": np.ones((4, 3), np.float32)[::2],
        "c": np.ones(2, np.float32),
        "d": np.ones((2, 5), np.float16),
    }
    # The last bits of a norm depend on the order in memory.
    twins = {k: x.copy(order="K") for k, x in params.items()}
    twins["b"] = np.ones((4, 3), np.float32)[::2]
    parts = [{k: x[m, ...] for k, x in twins.items()} for m in range(2)]
    many, rng = ao.Adam([0.1, 0.2], models=2, clipnorm=1.0), np.random.default_rng(3)
    single = [ao.Adam(rate, clipnorm=1.0) for rate in (0.1, 0.2)]
    for step in range(6):
        grads: Tree = {k: rng.normal(size=x.shape).astype(x.dtype) for k, x in params.items()}
        grads["b"] = grads["b"].astype(np.float64) if step == 3 else grads["b"]
        grads["c"] = None if step % 2 else grads["c"]
        grads["a"] = params["a"] if step == 4 else grads["a"]
        alike = {k: None if g is None else g.copy(order="K") for k, g in grads.items()}
        own = [{k: g if g is None else g[m, ...] for k, g in alike.items()} for m in (0, 1)]
        many.apply(grads, params)
        for optimizer, g, p in zip(single, own, parts, strict=True):
            optimizer.apply(g, p)
    assert all(np.array_equal(params[k][m], parts[m][k]) for k in params for m in (0, 1))


@pytest.mark.parametrize("fault", ["parameters move", "gradient in them", "another dtype", "None"])
def test_what_whole_arrays_hide(fault: str) -> None:
    """Machine code looks at whole arrays; where it cannot, pieces are looked at."""
    rng = np.random.default_rng(3)
    params = {"w": rng.normal(size=(2, 3)), "v": np.ones((2, 2))}
    many = ao.SGD([0.1, 0.2], models=2)
    wanted = {k: x.copy() for k, x in params.items()}
    for step in range(4):
        grads: Tree = {k: rng.normal(size=x.shape) for k, x in params.items()}
        if step > 1:
            params = {k: x.copy() for k, x in params.items()} if fault[0] == "p" else params
            grads["w"] = params["w"] if fault[0] == "g" else grads["w"]
            grads["w"] = grads["w"].astype(np.float32) if fault[0] == "a" else grads["w"]
            grads["v"] = None if fault == "None" else grads["v"]
        for k, g in grads.items():
            if g is not None:
                wanted[k] = wanted[k] - np.array([[0.1], [0.2]]) * g.astype(np.float64)
        many.apply(grads, params)
    for k, x in wanted.items():
        np.testing.assert_allclose(params[k], x, rtol=1e-15)


def test_reports_of_models() -> None:
    """Numbers that differ between models are tuples."""
    race = Race("Adam", lr=RATES, clipnorm=1.0, measure="gradient")
    race.run(1)
    last = race.many.last_step
    wanted = [o.last_step for o in race.single]
    assert last.global_norm == tuple(w.global_norm for w in wanted)
    assert last.clip_factor == tuple(w.clip_factor for w in wanted)
    assert last.hyperparameters["lr"] == tuple(RATES)
    assert last.norms["gradient"]["w[2]"] == wanted[2].norms["gradient"]["w"]
    assert race.many.summary(race.params).bytes == sum(
        o.summary(p).bytes for o, p in zip(race.single, race.parts, strict=True)
    )


def test_wrappers_of_models() -> None:
    """Those that treat entries alike hold many models; others say that they do not."""
    race = Race("SGD", lr=RATES)
    race.many = ao.GradientAccumulation(ao.Lookahead(race.many, k=2), 2)
    race.single = [ao.GradientAccumulation(ao.Lookahead(o, k=2), 2) for o in race.single]
    race.run(8)
    race.require_equal()
    for wrapper in (ao.SAM, ao.ScheduleFree):
        with pytest.raises(ValueError, match="wanted an optimizer of one model"):
            wrapper(ao.SGD(RATES, models=MODELS))


def test_the_pure_form_of_numpy_arrays() -> None:
    """A state has a first axis that counts models, and goes over to `apply` and back."""
    race = Race("DoG", lr=RATES)
    start = {k: x.copy() for k, x in race.params.items()}
    state, params = race.many.init_state(race.params), race.params
    rng = np.random.default_rng(9)
    grads = [stacked([drawn(rng) for _ in range(MODELS)]) for _ in range(3)]
    for g in grads:
        params, state = race.many.stateless_apply(state, g, params)
    assert state["iterations"].tolist() == [3] * MODELS
    assert state["slots"]["initial"]["w"].shape == (MODELS, 5, 3)
    other = cls_of("DoG")(lr=RATES, models=MODELS)
    for g in grads:
        other.apply(g, start)
    assert all(np.array_equal(params[k], x) for k, x in start.items())
    race.many.load_state(state, start)
    again = race.many.export_state(start)
    for table in ("hyper", "scalars"):
        assert all(np.array_equal(state[table][k], v) for k, v in again[table].items())
    more = race.many.stateless_apply(state, grads[0], params)[0]
    race.many.apply(grads[0], start)
    assert all(np.array_equal(more[k], x) for k, x in start.items())


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no models": (lambda: ao.Adam(lr=[0.1, 0.2]), TypeError, "wanted one number; with models=2"),
    "count": (lambda: ao.Adam([0.1, 0.2], models=3), ValueError, "found 2 values, wanted 3"),
    "interval": (lambda: ao.Adam([0.1, -0.2], models=2), ValueError, r"in \[0, inf\), got -0.2"),
    "nothing": (lambda: ao.Adam(models=0), ValueError, r"integer in \[1, inf\)"),
    "shared": (lambda: ao.Prodigy(d0=[1.0, 2.0], models=2), TypeError, "one number for all models"),
    "spikes": (
        lambda: ao.Adam(models=2, skip_spikes=3.0).init(np.ones((2, 3))),
        ValueError,
        "wanted one model",
    ),
    "losses": (
        lambda: ao.Adam(models=2, skip_loss_spikes=3.0).init(np.ones((2, 3))),
        ValueError,
        "skip_loss_spikes: found models=, wanted one model: the losses",
    ),
    "wrapper": (lambda: ao.Lookahead("sgd", alpha=[0.1, 0.2]), TypeError, "must be a number in"),
    "axis": (
        lambda: ao.Adam(models=3).init({"w": np.ones((2, 2))}),
        ValueError,
        r"'w': found shape \[2, 2\], wanted a first axis of length 3",
    ),
    "number": (lambda: ao.Adam(models=3).init(np.ones(())), ValueError, "a first axis of length 3"),
    "gradient": (
        lambda: ao.Adam(models=2).apply(np.ones((3, 2)), np.ones((2, 2))),
        ValueError,
        "a first axis of length 2",
    ),
    "rows": (
        lambda: ao.Adam(models=2).apply(
            ao.Rows(np.array([0]), np.ones((1, 3)), (2, 3)), np.ones((2, 3))
        ),
        ValueError,
        "wanted dense ones",
    ),
    "one model": (lambda: ao.Adam().take_model(0), ValueError, "wanted an optimizer with models="),
    "no state": (lambda: ao.Adam(models=2).take_model(0), ValueError, "no state yet"),
    "updates": (
        lambda: ao.Adam(models=2).get_updates(np.ones((2, 2)), lambda p: (0.0, p)),
        ValueError,
        "supports one model",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_input(case: str) -> None:
    """Errors say what was found and what was wanted."""
    call, kind, match = ERRORS[case]
    with pytest.raises(kind, match=match):
        call()


def test_what_cannot_be_put_in() -> None:
    """Nothing has changed then."""
    many = ao.Adam([0.1, 0.2], models=2)
    many.init({"w": np.ones((2, 3))})
    before, config = many.get_weights(), many.get_config()
    other, wide = ao.Adam(amsgrad=True), ao.Adam(0.5)
    other.init({"w": np.ones(3)})
    wide.init({"w": np.ones(4)})
    for model, value, match in [
        (2, ao.Adam(), r"found model 2, wanted an integer in \[0, 2\)"),
        (0, ao.SGD(), "wanted Adam of one model"),
        (0, many, "wanted Adam of one model"),
        (0, ao.Adam(), "has no state yet"),
        (0, wide, "misshapen"),
        (0, other, "found amsgrad=True, wanted False"),
    ]:
        with pytest.raises(ValueError, match=match):
            many.put_model(model, value)
    assert many.get_config() == config
    assert all(np.array_equal(a, b) for a, b in zip(many.get_weights(), before, strict=True))
    with pytest.raises(ValueError, match="found 3 values, wanted 2"):
        many.lr = [0.1, 0.2, 0.3]


# ---- other libraries


@pytest.mark.parametrize("name", ["Adam", "Muon", "DoG"])
def test_torch_tensors(name: str) -> None:
    """As the parameters that `torch.func.stack_module_state` gives."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    params = stacked([drawn(rng) for _ in range(MODELS)])
    tensors = {k: torch.tensor(x, requires_grad=True) for k, x in params.items()}
    parts = [{k: torch.tensor(x[m]) for k, x in params.items()} for m in range(MODELS)]
    many = cls_of(name)(lr=RATES, clipnorm=1.0, models=MODELS)
    single = [cls_of(name)(lr=rate, clipnorm=1.0) for rate in RATES]
    for _ in range(3):
        grads = {k: torch.tensor(g) for k, g in stacked([drawn(rng) for _ in range(4)]).items()}
        many.apply(grads, tensors)
        for m, optimizer in enumerate(single):
            optimizer.apply({k: g[m].clone() for k, g in grads.items()}, parts[m])
    for k, x in tensors.items():
        assert all(torch.equal(x.detach()[m], parts[m][k]) for m in range(MODELS))


@pytest.mark.parametrize("name", ["Adam", "LAMB", "Adafactor", "DoG"])
def test_jax_compiles_models(name: str) -> None:
    """Inside `jax.jit`, as `apply` steps the same arrays of NumPy."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        race = Race(name, lr=RATES, clipnorm=[1.0, 2.0, 0.5, 0.0], weight_decay=0.01)
        arrays = {k: jax.numpy.asarray(x) for k, x in race.params.items()}
        state, step = race.many.init_state(arrays), jax.jit(race.many.stateless_apply)
        assert state["hyper"]["lr"].shape == (MODELS,)
        for _ in range(3):
            grads = stacked([drawn(race.rng) for _ in range(MODELS)])
            arrays, state = step(state, {k: jax.numpy.asarray(g) for k, g in grads.items()}, arrays)
            race.many.apply(grads, race.params)
        for k, x in race.params.items():
            np.testing.assert_allclose(np.asarray(arrays[k]), x, rtol=1e-11, atol=1e-13)
        with pytest.raises(TypeError, match="use init_state and stateless_apply"):
            cls_of(name)(models=MODELS).apply(arrays, arrays)


def test_optax_under_vmap() -> None:
    """The same numbers as optax's Adam mapped over models, with norms of each."""
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    rng, clip = np.random.default_rng(5), optax.clip_by_global_norm(1.0)
    params = stacked([drawn(rng) for _ in range(MODELS)])
    with jax.enable_x64(True):
        arrays = {k: jax.numpy.asarray(x) for k, x in params.items()}
        state = jax.vmap(optax.chain(clip, optax.adam(1.0)).init)(arrays)

        def step(rate: Any, held: Any, g: Tree, p: Tree) -> Any:
            updates, new = optax.chain(clip, optax.adam(rate)).update(g, held, p)
            return optax.apply_updates(p, updates), new

        many = ao.Adam(RATES, models=MODELS, clipnorm=1.0, preset="optax")
        for _ in range(3):
            grads = stacked([drawn(rng) for _ in range(MODELS)])
            mapped = {k: jax.numpy.asarray(g) for k, g in grads.items()}
            arrays, state = jax.vmap(step)(jax.numpy.asarray(RATES), state, mapped, arrays)
            many.apply(grads, params)
        for k, x in params.items():
            np.testing.assert_allclose(np.asarray(arrays[k]), x, rtol=1e-11, atol=1e-13)


def test_a_transformation_of_many() -> None:
    """An optax transformation of an optimizer of many, chained and inside of `jax.jit`."""
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    race = Race("Adam", lr=RATES, clipnorm=1.0)
    with jax.enable_x64(True):
        arrays = {k: jax.numpy.asarray(x) for k, x in race.params.items()}
        chained = optax.chain(optax.scale(0.5), ao.optax.wrap(race.many))
        state, update = chained.init(arrays), jax.jit(chained.update)
        for _ in range(3):
            grads = stacked([drawn(race.rng) for _ in range(MODELS)])
            mapped = {k: jax.numpy.asarray(g) for k, g in grads.items()}
            updates, state = update(mapped, state, arrays)
            arrays = optax.apply_updates(arrays, updates)
            race.many.apply({k: g * 0.5 for k, g in grads.items()}, race.params)
        for k, x in race.params.items():
            np.testing.assert_allclose(np.asarray(arrays[k]), x, rtol=1e-11, atol=1e-13)


ADAPTERS: dict[str, Callable[[ao.Adam], object]] = {
    "keras": lambda many: ao.keras.wrap(many),
    "torch": lambda many: ao.torch.wrap(many, torch_parameters()),
    "mpi4py": lambda many: ao.mpi.DataParallel(many),
    "mpi4py, wrapped": lambda many: ao.mpi.DataParallel(ao.Grokfast(many)),
}


def torch_parameters() -> list[Any]:
    """Return the parameters of a module of torch."""
    torch = pytest.importorskip("torch")
    return [torch.nn.Parameter(torch.zeros(2, 3))]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapters_of_one_model(adapter: str) -> None:
    """What an adapter would step as one model is refused where it is made."""
    pytest.importorskip(adapter.partition(",")[0])
    with pytest.raises(ValueError, match="wanted an optimizer of one model"):
        ADAPTERS[adapter](ao.Adam(lr=[0.1, 0.2], models=2))


def test_torch_has_no_models() -> None:
    """Torch's classes have no such argument, and say what steps many."""
    parameters = torch_parameters()
    with pytest.raises(TypeError, match="step many with arrayoptim's own classes"):
        ao.torch.Adam(parameters, models=2)
    with pytest.raises(TypeError, match="step many with arrayoptim's own classes"):
        ao.torch.Adam([{"params": parameters, "models": 2}])
