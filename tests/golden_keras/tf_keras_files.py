"""Record files of tf.keras, and where the training that saved them went on to.

Needs tensorflow and tf_keras, whose ``optimizers.legacy`` are those of tf.keras 2.0 to 2.10 and
whose ``optimizers`` those of 2.11 to the end. Writes ``tf_keras.zip``: the files, ``index.json``
and ``numbers.npz``, which has the gradients and, for each file, parameters at the time of saving
(``FILE/before/K``) and three steps later (``FILE/after/K``).
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", TF_USE_LEGACY_KERAS="1")

import numpy as np
import tensorflow as tf
import tf_keras

STEPS = 3
SCHEDULES = tf_keras.optimizers.schedules
RATES = {
    "exponential": SCHEDULES.ExponentialDecay(0.1, 2, 0.5, staircase=True),
    "inverse": SCHEDULES.InverseTimeDecay(0.1, 2, 0.5),
    "piecewise": SCHEDULES.PiecewiseConstantDecay([2, 4], [0.1, 0.05, 0.025]),
    "polynomial": SCHEDULES.PolynomialDecay(0.1, 5, 0.01, power=2.0, cycle=True),
    "cosine": SCHEDULES.CosineDecay(0.1, 5, alpha=0.1),
    "warm": SCHEDULES.CosineDecay(0.0, 5, warmup_target=0.1, warmup_steps=2),
    "restarts": SCHEDULES.CosineDecayRestarts(0.1, 2, t_mul=2.0, m_mul=0.5),
}
FTRL = {
    "l1_regularization_strength": 0.01,
    "l2_regularization_strength": 0.02,
    "l2_shrinkage_regularization_strength": 0.03,
    "beta": 0.5,
}
BOTH: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {}),
    "sgd_momentum": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop_momentum": ("RMSprop", {"momentum": 0.5, "epsilon": 0.01}),
    "rmsprop_centered": ("RMSprop", {"centered": True, "epsilon": 0.01}),
    "rmsprop_both": ("RMSprop", {"centered": True, "momentum": 0.5, "epsilon": 0.01}),
    "adagrad": ("Adagrad", {"epsilon": 0.01}),
    "adadelta": ("Adadelta", {"learning_rate": 1.0}),
    "adam": ("Adam", {"epsilon": 0.01}),
    "adam_amsgrad": ("Adam", {"amsgrad": True}),
    "adamax": ("Adamax", {}),
    "nadam": ("Nadam", {"learning_rate": 0.01}),
    "ftrl": ("Ftrl", FTRL),
    "clipnorm": ("SGD", {"clipnorm": 1.0}),
    "global_clipnorm": ("Adam", {"global_clipnorm": 0.5}),
    "clipvalue": ("SGD", {"clipvalue": 0.25}),
    **{f"rate_{name}": ("Adam", {"learning_rate": rate}) for name, rate in RATES.items()},
}
OLD = {
    "sgd_decay": ("SGD", {"decay": 0.1, "momentum": 0.5}),
    "rmsprop_decay": ("RMSprop", {"decay": 0.1}),
    "adagrad_decay": ("Adagrad", {"decay": 0.1}),
    "adadelta_decay": ("Adadelta", {"decay": 0.1}),
    "adamax_decay": ("Adamax", {"decay": 0.1}),
    "ftrl_decay": ("Ftrl", {"decay": 0.1, "learning_rate": 0.1}),
    "nadam_decay": ("Nadam", {"schedule_decay": 0.1, "learning_rate": 0.01}),
}
NEW = {
    "adamw": ("AdamW", {"weight_decay": 0.1}),
    "adam_decoupled": ("Adam", {"weight_decay": 0.1}),
    "lion": ("Lion", {"weight_decay": 0.1, "learning_rate": 0.01}),
    "adafactor": ("Adafactor", {"learning_rate": 0.1}),
    "adafactor_absolute": ("Adafactor", {"learning_rate": 0.9, "relative_step": False}),
    "averages": ("Adam", {"use_ema": True, "ema_momentum": 0.75}),
    "clipnorm_and_value": ("SGD", {"clipnorm": 1.0, "clipvalue": 0.25}),
}
RATE = 0.05


def model(images: bool) -> Any:
    """Make a small model; with images one that has a kernel of four axes."""
    layers = tf_keras.layers
    if images:
        inner = [layers.Conv2D(3, 2), layers.Flatten()]
        return tf_keras.Sequential([layers.Input((3, 3, 2)), *inner, layers.Dense(1)])
    return tf_keras.Sequential([layers.Input((3,)), layers.Dense(2), layers.Dense(1)])


def draw(shapes: list[tuple[int, ...]]) -> list[list[np.ndarray]]:
    """Draw the gradients of all steps."""
    rng = np.random.default_rng(7)
    return [
        [rng.normal(size=shape).astype("float32") for shape in shapes] for _ in range(2 * STEPS)
    ]


def main() -> None:
    """Write the archive."""
    folder, numbers, index = Path(tempfile.mkdtemp()), {}, {}
    new, old = tf_keras.optimizers, tf_keras.optimizers.legacy
    rows = [(f"old_{name}", old, *row) for name, row in (BOTH | OLD).items()]
    rows += [(f"new_{name}", new, *row) for name, row in (BOTH | NEW).items()]
    for kind in ("old", "new"):
        module = old if kind == "old" else new
        rows.append((f"{kind}_scaled", module, "Adam", {"epsilon": 0.01}))
    for name, module, class_name, kwargs in rows:
        images = class_name == "Adafactor"
        tf.keras.utils.set_random_seed(3)
        net = model(images)
        kwargs = {"learning_rate": RATE, **kwargs}
        optimizer = stepped = getattr(module, class_name)(**kwargs)
        if name.endswith("scaled"):
            optimizer = tf_keras.mixed_precision.LossScaleOptimizer(optimizer)
            stepped = optimizer.inner_optimizer
        net.compile(optimizer, "mean_squared_error")
        variables = net.trainable_variables
        gradients = draw([tuple(v.shape) for v in variables])
        for step, row in enumerate(gradients):
            if step == STEPS:
                files = save(net, folder, name)
                before = [v.numpy() for v in variables]
            stepped.apply_gradients(list(zip(map(tf.constant, row), variables)))
        numbers |= {f"{name}/before/{k}": x for k, x in enumerate(before)}
        numbers |= {f"{name}/after/{k}": v.numpy() for k, v in enumerate(variables)}
        if optimizer_averages := getattr(stepped, "_model_variables_moving_average", None):
            numbers |= {f"{name}/average/{k}": v.numpy() for k, v in enumerate(optimizer_averages)}
        key = "images" if images else "rows"
        numbers |= {
            f"{key}/{i}/{k}": g for i, row in enumerate(gradients) for k, g in enumerate(row)
        }
        index[name] = {"class_name": class_name, "files": files, "gradients": key}
    with zipfile.ZipFile(Path(__file__).with_name("tf_keras.zip"), "w", 8, compresslevel=9) as out:
        out.writestr("index.json", json.dumps(index, indent=1))
        with io.BytesIO() as raw:
            np.savez_compressed(raw, **numbers)
            out.writestr("numbers.npz", raw.getvalue())
        for path in sorted(folder.iterdir()):
            out.write(path, path.name)


def save(net: Any, folder: Path, name: str) -> list[str]:
    """Save the model in the forms that its optimizer has."""
    forms = ["h5"] if name.startswith("old") and name != "old_adam" else ["h5", "keras"]
    forms += ["weights.h5"] if name == "new_adam" else []
    files = [f"{name}.{form}" for form in forms]
    for file in files:
        if file.endswith("weights.h5"):
            net.save_weights(folder / file)
        else:
            net.save(folder / file)
    return files


if __name__ == "__main__":
    main()
