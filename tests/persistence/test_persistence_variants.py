"""Files as other versions of Keras write them, and such as none does."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.persistence import read, read_group
from persistence_records import bits

P = [(4, 3), (3,), (3, 2)]
ONE = [(1,), (1,)]


def numbers(shapes: Iterable[tuple[int, ...]], start: float = 1) -> list[np.ndarray]:
    """Return arrays that all differ."""
    return [np.full(shape, start + i, np.float32) for i, shape in enumerate(shapes)]


def legacy(
    path: Path, names: list[str], arrays: list[Any], described: Any, version: str, chunk: int = 0
) -> Path:
    """Write a file as model.save of Keras 2, and of Keras 3 for .h5, does."""
    with h5py.File(path, "w") as f:
        f.attrs["keras_version"] = version
        if described is not None:
            class_name, config = described
            training = {"optimizer_config": {"class_name": class_name, "config": config}}
            f.attrs["training_config"] = json.dumps(training).encode()
        group = f.create_group("optimizer_weights")
        raw = [name.encode() for name in names]
        if chunk:
            for k in range(0, len(raw), chunk):
                group.attrs[f"weight_names{k // chunk}"] = raw[k : k + chunk]
        else:
            group.attrs["weight_names"] = raw
        for name, array in zip(names, arrays, strict=True):
            group[name] = array
    return path


def variables(class_name: str, count: int, *scalars: str) -> list[str]:
    """Name variables as TensorFlow does."""
    return [*scalars, *(f"training/{class_name}/Variable_{i}:0" for i in range(count))]


I = np.int64(7)  # noqa: E741 (the counter)
M = np.float32(0.25)
TWO = ["momentum", "velocity"]
KERAS_2_VARIANTS: dict[str, tuple[Any, list[str], list[Any], list[str], dict[str, float]]] = {
    "2.0.0, a counter in floating point": (
        ("Adam", {}), ["it"], [np.float32(7), *numbers(P + P)], TWO, {}),
    "2.1.3, amsgrad off": (
        ("Adam", {"amsgrad": False}), ["it"], [I, *numbers(P + P + [(1,)] * 3)], TWO, {}),
    "2.1.3, amsgrad on": (
        ("Adam", {"amsgrad": True}), ["it"], [I, *numbers(P * 3)], [*TWO, "velocity_hat"], {}),
    "no config, amsgrad off": (None, ["it"], [I, *numbers(P + P + [(1,)] * 3)], TWO, {}),
    "2.3, RMSprop counts": (("RMSprop", {}), ["it"], [I, *numbers(P)], ["velocity"], {}),
    "2.3, Nadam keeps its product": (
        ("Nadam", {}), ["it", "m_schedule"], [I, M, *numbers(P + P)], TWO, {"m_schedule": 0.25}),
    "tf.keras Nadam": (
        ("Nadam", {}), ["iter", "momentum_cache"], [I, M, *numbers(P + P)], TWO,
        {"m_schedule": 0.25}),
    "tf.keras SGD without momentum": (("SGD", {"momentum": 0.0}), ["iter"], [I], [], {}),
    "tf.keras RMSprop": (
        ("RMSprop", {"momentum": 0.5, "centered": True}), ["iter"], [I, *numbers(P * 3)],
        ["velocity", "momentum", "average_gradient"], {}),
    "tf.keras Adam": (("Adam", {"amsgrad": False}), ["iter"], [I, *numbers(P + P)], TWO, {}),
    "no config, parameters of shape (1,)": (
        ("Adam", {"amsgrad": True}), ["it"], [I, *numbers(ONE * 3)], [*TWO, "velocity_hat"], {}),
}  # fmt: skip


@pytest.mark.parametrize("chunk", [0, 2])
@pytest.mark.parametrize("case", KERAS_2_VARIANTS)
def test_keras_2_variants(case: str, chunk: int, tmp_path: Path) -> None:
    """Placeholders, counters and scalars come and go with the versions."""
    described, scalars, arrays, slots, products = KERAS_2_VARIANTS[case]
    class_name = described[0] if described else "Adam"
    heads = [f"{class_name}_1/{'iterations' if s == 'it' else s}:0" for s in scalars]
    names = variables(class_name, len(arrays) - len(heads), *heads)
    path = legacy(tmp_path / "m.h5", names, arrays, described, "2.3.1", chunk)
    found = read(path)
    assert (found.class_name or "").lower() == class_name.lower()
    assert (found.iterations, found.scalars) == (7, products)
    wanted = list(map(bits, arrays[len(heads) :]))
    assert list(found.slots) == slots
    ours = [bits(array) for arrays in found.slots.values() for array in arrays]
    assert ours == wanted[: len(ours)]
    assert all(shape == (1,) for _, shape, _ in wanted[len(ours) :])
    with h5py.File(path) as f:
        assert read_group(f["optimizer_weights"]).iterations == 7
        assert read_group(f).class_name == found.class_name


MISFITS = {
    "does not divide": (("Adam", {}), [I, *numbers(P + P[:2])], "5 slot arrays of Keras 2 Adam"),
    "shapes differ": (("Adamax", {}), [I, *numbers(P + P[::-1])], "momentum [+] norm"),
    "another class": (("Lion", {}), [I, *numbers(P)], "state of Lion, wanted one of SGD"),
    "two ways": (None, [I, *numbers([(1,)] * 6)], "can be read as"),
    "no slots": (("Adam", {}), [I], "found no slots"),
    "no variables": (("Adam", {}), [], "without names"),
    "counter": (("Adam", {}), [np.float32(1.5), *numbers(P + P)], "found 1.5, wanted an integer"),
    "counters": (("Adam", {}), [np.zeros(2, int), *numbers(P + P)], "wanted one number"),
    "text": (("Adam", {}), [I, *numbers(P), *[b"x"] * 3], "wanted numbers"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_keras_2_misfits(case: str, tmp_path: Path) -> None:
    """What does not come out even is not guessed at."""
    described, arrays, words = MISFITS[case]
    names = variables("Adam", len(arrays) - 1, "Adam/iterations:0")[: len(arrays)]
    with pytest.raises(ValueError, match=rf"m\.h5: .*{words}"):
        read(legacy(tmp_path / "m.h5", names, arrays, described, "2.0.9"))


def interleaved(slots: list[str], style: str = "adam/{p}_{s}") -> tuple[list[str], list[Any]]:
    """Return Keras 3's names and arrays for two slots of the parameters P."""
    names = [style.format(p=p, s=s) for p in "abc" for s in slots]
    return names, numbers([shape for shape in P for _ in slots])


def test_keras_2_15(tmp_path: Path) -> None:
    """The optimizers of Keras 2.11 to 2.15 are those of Keras 3 but for names."""
    names, arrays = interleaved(["m", "v"], "Adam/{s}/{p}:0")
    path = tmp_path / "m.h5"
    for head, values in ((["iteration:0"], [I]), (["iteration:0", "learning_rate:0"], [I, M])):
        described = ("Adam", {"learning_rate": 0.5})
        found = read(legacy(path, head + names, values + arrays, described, "2.15.0"))
        assert (found.source, found.iterations) == ("keras 2", 7)
        assert found.config == {"learning_rate": 0.5 if len(head) == 1 else 0.25}
        assert [a.flat[0] for a in found.slots["velocity"]] == [2, 4, 6]


def weights_file(
    path: Path,
    arrays: list[Any],
    name: str | None,
    model: Any = P,
    config: Any = None,
    inner: Sequence[Any] = (),
) -> Path:
    """Write a file as save_weights of Keras 3 does, or a .keras file around it."""
    content = io.BytesIO()
    with h5py.File(content, "w") as f:
        for i, shape in enumerate(model):
            f[f"layers/dense/vars/{i}"] = np.zeros(shape)
        group = f.create_group("optimizer/vars")
        if name:
            group.attrs["name"] = name
        for i, array in enumerate(arrays):
            group[str(i)] = array
        for i, array in enumerate(inner):
            f[f"optimizer/inner_optimizer/vars/{i}"] = array
    if path.suffix == ".h5":
        path.write_bytes(content.getvalue())
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({"compile_config": {"optimizer": config}}))
        archive.writestr("model.weights.h5", content.getvalue())
    return path


SCHEDULE = {"class_name": "ExponentialDecay", "config": {}}
BOTH = [a for p in zip(numbers(P), numbers(P, 4), strict=True) for a in p]
WRAPPED = {"inner_optimizer": {"class_name": "Adam", "config": {}}}
EXTRAS = {"use_ema": True, "gradient_accumulation_steps": 3, "amsgrad": True}
KERAS_3_VARIANTS: dict[str, tuple[str, Any, list[Any], int, int]] = {
    "a schedule": ("Adam", {"learning_rate": SCHEDULE}, [I, *BOTH], 7, 0),
    "averages and sums": (
        "Adam", EXTRAS, [I, M, *numbers(P + P, 50), *BOTH, *numbers(P, 7)], 2, 1),
    "loss scale": ("LossScaleOptimizer", WRAPPED, [I, M, I, M, I, M, *BOTH], 7, 1),
    "Nadam up to 3.3": ("Nadam", {"beta_1": 0.9}, [I, M, np.float32(0.5), *BOTH], 7, 0),
    "Nadam from 3.4": ("Nadam", {"beta_1": 0.9}, [I, M, *BOTH, np.float32(0.5)], 7, 0),
    "Nadam of 2.15": ("Nadam", {"beta_1": 0.9}, [I, *BOTH], 7, 1),
    "a bare name": ("adam", None, [I, M, *BOTH], 7, 1),
}  # fmt: skip


@pytest.mark.parametrize("case", KERAS_3_VARIANTS)
def test_keras_3_variants(case: str, tmp_path: Path) -> None:
    """What else stands among the variables."""
    class_name, config, arrays, steps, notes = KERAS_3_VARIANTS[case]
    described = class_name if config is None else {"class_name": class_name, "config": config}
    found = read(weights_file(tmp_path / "m.keras", arrays, None, P, described))
    assert found.iterations == steps
    assert list(map(bits, found.slots["momentum"])) == list(map(bits, numbers(P)))
    assert list(map(bits, found.slots["velocity"])) == list(map(bits, numbers(P, 4)))
    assert len(found.notes) == notes, found.notes
    if "Nadam" in case and not notes:
        assert found.scalars == {"m_schedule": 0.5}
    assert len(found.unkept) == ("scale" in case)
    if "averages" in case:
        assert list(map(bits, found.slots["average"])) == list(map(bits, numbers(P, 50)))
        assert list(map(bits, found.slots["velocity_hat"])) == list(map(bits, numbers(P, 7)))


def test_a_loss_scale_that_is_not_described(tmp_path: Path) -> None:
    """With mixed_float16 Keras puts it around the optimizer that `compile` was given."""
    described = {"class_name": "Adam", "config": {"beta_1": 0.9}}
    inner = [I, M, *BOTH]
    path = weights_file(tmp_path / "m.keras", [I, M, I, M, *inner], None, P, described, inner)
    found = read(path)
    assert (found.class_name, found.iterations) == ("Adam", 7)
    assert list(map(bits, found.slots["velocity"])) == list(map(bits, numbers(P, 4)))


def test_keras_3_lion(tmp_path: Path) -> None:
    """One slot, with and without the configuration."""
    described = {"class_name": "Lion", "config": {"beta_1": 0.8}}
    arrays = [I, M, *numbers(P)]
    for found in (
        read(weights_file(tmp_path / "m.keras", arrays, None, P, described)),
        read(weights_file(tmp_path / "m.weights.h5", arrays, "lion")),
    ):
        assert (found.class_name, found.iterations, list(found.slots)) == ("Lion", 7, ["momentum"])
        assert list(map(bits, found.slots["momentum"])) == list(map(bits, numbers(P)))


@pytest.mark.parametrize("suffix", ["keras", "weights.h5"])
def test_load_invents_no_hyperparameters(suffix: str, tmp_path: Path) -> None:
    """What does not say them goes into an optimizer that was constructed with them."""
    path = weights_file(tmp_path / f"m.{suffix}", [I, M, *numbers(P)], "rm_sprop")
    with pytest.raises(ValueError, match=r"with which hyperparameters its RMSprop.*load_weights"):
        ao.load(path)
    optimizer = ao.RMSprop(rho=0.5)
    optimizer.init([np.zeros(shape, np.float32) for shape in P])
    report = optimizer.load_weights(path)
    assert "no hyperparameters but the learning rate" in " ".join(report.notes)
    assert (optimizer.rho, optimizer.lr, optimizer.iterations) == (0.5, 0.25, 7)


def test_keras_3_names_in_parts(tmp_path: Path) -> None:
    """A legacy file with many variables; names that contradict the order are an error."""
    names, arrays = interleaved(TWO)
    heads = ["adam/iteration", "adam/learning_rate"]
    path = tmp_path / "m.h5"
    found = read(legacy(path, heads + names, [I, M, *arrays], ("Adam", {}), "3.0.0", 3))
    assert [a.flat[0] for a in found.slots["velocity"]] == [2, 4, 6]
    found = read(legacy(path, heads + names, [I, M, *arrays], None, "3.0.0"))
    assert (found.class_name, found.config) == ("Adam", {"learning_rate": 0.25})
    names[0], names[1] = names[1], names[0]
    legacy(path, heads + names, [I, M, *arrays], ("Adam", {}), "3.0.0")
    with pytest.raises(ValueError, match=r"found 'adam/a_velocity' where momentum"):
        read(path)


def test_keras_3_bfloat16(tmp_path: Path) -> None:
    """Keras 3 stores it as two opaque bytes and says so."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    wanted = [np.arange(4, dtype=ml_dtypes.bfloat16).reshape(2, 2)] * 2
    path = weights_file(tmp_path / "m.weights.h5", [I, M, *wanted], "adam", [(2, 2)])
    with h5py.File(path, "r+") as f:
        for name in "23":
            del f[f"optimizer/vars/{name}"]
            f[f"optimizer/vars/{name}"] = wanted[0].view("V2")
            f[f"optimizer/vars/{name}"].attrs["dtype"] = "bfloat16"
    found = read(path)
    assert bits(found.slots["velocity"][0]) == bits(wanted[0])


SAME = [(2, 2)] * 6
KERAS_3_MISFITS: dict[str, tuple[str | None, Any, list[Any], str]] = {
    "one way too many": ("rmsprop", SAME, [I, M, *numbers(SAME)], "can be read as"),
    "no name": (None, P, [I, M, *BOTH], "unknown class"),
    "no state": ("adam", P, [I, M], "before its first training step"),
    "does not divide": ("adam", P, [I, M, *BOTH[1:]], "5 slot arrays of Keras 3 Adam"),
    "other shapes": ("adam", P[1:], [I, M, *BOTH], "wanted, for each parameter"),
    "scaled": ("loss_scale_optimizer", P, [I, M, I, M, I, M, *BOTH], "inner optimizer"),
    "nothing": ("adam", P, [], "at least the counter"),
    "a counter below 0": ("adam", P, [np.int64(-1), M, *BOTH], "found -1"),
}


@pytest.mark.parametrize("case", KERAS_3_MISFITS)
def test_keras_3_misfits(case: str, tmp_path: Path) -> None:
    """Without the configuration some files are open; that is said, not guessed."""
    name, model, arrays, words = KERAS_3_MISFITS[case]
    with pytest.raises(ValueError, match=words):
        read(weights_file(tmp_path / "m.weights.h5", arrays, name, model))


def test_keras_3_parts(tmp_path: Path) -> None:
    """A gap in the numbers, the weights alone, archives without weights."""
    path = weights_file(tmp_path / "m.weights.h5", [I, M, *BOTH], "adam")
    with h5py.File(path, "r+") as f:
        del f["optimizer/vars/3"]
        with pytest.raises(ValueError, match="numbers from 0 up"):
            read_group(f)
        del f["optimizer"]
    with pytest.raises(ValueError, match="weights of a Keras model alone"):
        read(path)
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"wanted model\.weights\.h5"):
        read(tmp_path / "m.keras")
