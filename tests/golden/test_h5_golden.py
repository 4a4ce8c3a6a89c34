"""Files that Keras 2.0.9, natural_bm and Keras 3 wrote, read and trained on."""

from __future__ import annotations

from contextlib import nullcontext as nothing
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from golden_files import FOLDER, records
from optimizers_under_test import make, same

TOLERANCE = 3e-5  # float32, relative to 1 + |x|
BATCH = 8


def by_file(entries: list[dict[str, Any]], key: str = "file") -> Any:
    """Parametrise over index entries."""
    return pytest.mark.parametrize("entry", entries, ids=[entry[key] for entry in entries])


def arrays(npz: Any, prefix: str) -> list[np.ndarray]:
    """Return the arrays `prefix/0`, `prefix/1` and so on."""
    count = sum(key.rpartition("/")[0] == prefix for key in npz.files)
    return [npz[f"{prefix}/{k}"] for k in range(count)]


def gradients(params: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Return the gradients of the mean squared error of tanh(x W + b) V + c."""
    w, b, v, c = params
    hidden = np.tanh(x @ w + b)
    error = 2 * (hidden @ v + c - y) / y.size
    below = (error @ v.T) * (1 - hidden * hidden)
    return [x.T @ below, below.sum(0), hidden.T @ error, error.sum(0)]


def epoch(opt: Any, params: list[np.ndarray], npz: Any) -> list[np.ndarray]:
    """Train one epoch in order."""
    for i in range(0, len(npz["x"]), BATCH):
        grads = gradients(params, npz["x"][i : i + BATCH], npz["y"][i : i + BATCH])
        params = opt.apply(grads, params)
    return params


def close(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    """Assert agreement relative to 1 + |x|."""
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert np.max(np.abs(a - b) / (1 + np.abs(b)), initial=0) <= TOLERANCE


def keras_order(opt: Any, wanted: list[np.ndarray], n: int = 4) -> list[np.ndarray]:
    """Return our weights without what Keras did not save."""
    ours = opt.get_weights()
    counted, slots = len(wanted) % n, len(wanted) // n * n
    return ours[:counted] + ours[len(ours) - slots :]


SHALLOW = [e for e in records("keras2_th") if "reload" in e]
SHALLOW_TF = [e for e in records("keras2_tf") if "reload" in e and e["class_name"] != "TFOptimizer"]


@by_file(SHALLOW)
def test_the_first_epoch_is_ours(entry: dict[str, Any]) -> None:
    """The hand-written model and our optimizer give what Keras had when it saved the file."""
    npz = np.load(FOLDER / entry["npz"])
    opt = make(entry["class_name"], **entry["kwargs"])
    close(epoch(opt, arrays(npz, "model_start"), npz), arrays(npz, "model"))
    close(keras_order(opt, arrays(npz, "opt")), arrays(npz, "opt"))


@pytest.mark.parametrize("way", ["kwargs", "defaults", "ao.load"])
@by_file(SHALLOW)
def test_keras_2_goes_on(entry: dict[str, Any], way: str) -> None:
    """Loaded and trained further, as Keras after `load_model`; the file brings its settings."""
    npz = np.load(FOLDER / entry["npz"])
    params = arrays(npz, "model")
    path = FOLDER / entry["file"]
    if way == "ao.load":
        lacks = "iterations" in entry["not_saved"] and entry["kwargs"].get("decay")
        with pytest.warns(UserWarning, match=r"Set optimizer\.iterations") if lacks else nothing():
            opt = ao.load(path)
        opt.init(params)
    else:
        opt = make(entry["class_name"], **(entry["kwargs"] if way == "kwargs" else {}))
        opt.init(params)
        opt.load_weights(path)
    close(keras_order(opt, arrays(npz, "opt")), arrays(npz, "opt"))
    assert opt.iterations == entry["reload"]["iterations"]
    if "m_schedule" in entry["not_saved"]:
        opt.m_schedule = 1.0  # where Keras starts it again
    params = epoch(opt, params, npz)
    close(params, arrays(npz, "reload_next_epoch/model"))
    wanted = arrays(npz, "reload_next_epoch/opt")
    close(keras_order(opt, wanted), wanted)
    if not entry["not_saved"]:
        close(params, arrays(npz, "no_reload_next_epoch/model"))


@by_file([e for e in SHALLOW if e["not_saved"]])
def test_what_keras_2_lost_can_be_given_back(entry: dict[str, Any]) -> None:
    """With the one number, set or computed, training continues as if Keras had never stopped."""
    npz = np.load(FOLDER / entry["npz"])
    opt, params = make(entry["class_name"], **entry["kwargs"]), arrays(npz, "model")
    opt.init(params)
    opt.load_weights(FOLDER / entry["file"])
    if "iterations" in entry["not_saved"]:
        opt.iterations = int(entry["not_saved"]["iterations"])
    else:
        assert opt.m_schedule == pytest.approx(float(entry["not_saved"]["m_schedule"]), rel=1e-5)
    close(epoch(opt, params, npz), arrays(npz, "no_reload_next_epoch/model"))


@by_file(
    SHALLOW_TF + [e for e in records("keras2_tf") + records("keras2_th") if "deep" in e["file"]]
)
def test_keras_2_weights_are_read_in_order(entry: dict[str, Any]) -> None:
    """Either backend's names, and 21 weights whose names do not sort in list order."""
    npz = np.load(FOLDER / entry["npz"])
    opt, params = make(entry["class_name"], lr=0.5), arrays(npz, "model")
    opt.init(params)
    opt.load_weights(FOLDER / entry["file"])
    wanted = arrays(npz, "opt")
    found = keras_order(opt, wanted, len(params))
    same([a.astype(b.dtype) for a, b in zip(found, wanted, strict=True)], wanted)
    assert opt.lr == entry["get_config"]["lr"]


def test_keras_2_suffixed_names() -> None:
    """A second model in one session has names with a suffix."""
    opt = ao.load(FOLDER / "keras2_tf_second_model_in_session.h5")
    params = [np.zeros(shape, "float32") for shape in [(10, 8), (8,), (8, 3), (3,)]]
    opt.init(params)
    assert opt.iterations > 0
    assert any(np.any(weight) for weight in opt.get_weights()[1:])


@pytest.mark.parametrize(
    "kind", ["tf_8_tfoptimizer", "tf_no_optimizer", "tf_compiled_never_trained"]
)
def test_keras_2_without_weights(kind: str) -> None:
    """A file without optimizer weights is an error that names the file, and changes nothing."""
    path = FOLDER / f"keras2_{kind}.h5"
    opt, params = ao.Adam(), [np.zeros(3, "float32")]
    opt.apply([np.ones(3, "float32")], params)
    before = opt.get_weights()
    with pytest.raises(ValueError, match=path.name):
        opt.load_weights(path)
    same(opt.get_weights(), before)


@by_file(records("natural_bm"))
def test_natural_bm(entry: dict[str, Any]) -> None:
    """The file's weights, and the five steps that led to them."""
    npz = np.load(FOLDER / entry["npz"])
    ramp = {"schedule_decay": 0.004, "mom_iter_max": 475000}
    kwargs = (ramp if entry["class_name"] == "SGD" else {}) | entry["kwargs"]
    opt, params = make(entry["class_name"], **kwargs), arrays(npz, "param_start")
    for step in range(entry["steps"]):
        params = opt.apply(arrays(npz, f"grad/{step}"), params)
        if entry["class_name"] == "SGD" and not kwargs.get("decay"):
            opt.iterations = 0  # natural_bm counts only where the constructor's decay > 0
    close(params, arrays(npz, "param"))
    wanted = arrays(npz, "opt")
    close(keras_order(opt, wanted, len(params)), wanted)
    loaded = make(entry["class_name"], **kwargs)
    loaded.init(params)
    loaded.load_weights(FOLDER / entry["file"])
    found = keras_order(loaded, wanted, len(params))
    same([a.astype(b.dtype) for a, b in zip(found, wanted, strict=True)], wanted)


def slot_of(variable: str) -> tuple[str, str] | None:
    """Split a Keras 3 variable's name into the parameter and our slot's name."""
    for tail in ("kernel_", "bias_"):
        head, found, slot = variable.partition(tail)
        if found:
            return head + tail, slot
    return None


@pytest.mark.parametrize("kind", ["file_h5", "file_keras"])
@by_file(records("keras3"), "file_h5")
def test_keras_3(entry: dict[str, Any], kind: str) -> None:
    """Each variable lands in the slot of its name, interleaved as they are."""
    npz = np.load(FOLDER / entry["npz"])
    variables = dict(
        zip([v["name"] for v in entry["optimizer_variables"]], arrays(npz, "opt"), strict=True)
    )
    opt = ao.load(FOLDER / entry[kind])
    params = arrays(npz, "model")
    opt.init(params)
    assert type(opt).__name__ == entry["class_name"]
    assert (opt.preset == "keras3") == (entry["class_name"] in {"Adagrad", "Nadam", "RMSprop"})
    assert opt.iterations == variables["iteration"]
    assert np.float32(opt.lr) == variables["learning_rate"]
    if "variable" in variables:
        assert np.float32(opt.m_schedule) == variables["variable"]
    ours = np_slots(opt, params)
    wanted: dict[str, list[np.ndarray]] = {}
    for variable, value in variables.items():
        if (split := slot_of(variable)) is not None:
            wanted.setdefault(split[1], []).append(value)
    for slot, values in wanted.items():
        same(ours[slot], values)
    for slot in set(ours) - set(wanted):
        assert not any(np.any(array) for array in ours[slot])


def np_slots(opt: Any, params: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Return the slots by name."""
    state = type(opt).from_config(opt.get_config()).init_state(params)
    arrays_ = opt.get_weights()[1 + len(state["scalars"]) :]
    n = len(params)
    return {slot: arrays_[i * n : (i + 1) * n] for i, slot in enumerate(state["slots"])}
