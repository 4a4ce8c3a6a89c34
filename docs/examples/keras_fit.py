"""
Keras: save in the middle of fit, and go on
===========================================

A model is saved after ten epochs and loaded again, and both go on alike. It runs on whichever
backend ``KERAS_BACKEND`` names.
"""

import tempfile
from pathlib import Path

import keras
import numpy as np

import arrayoptim as ao

keras.utils.set_random_seed(0)
random = np.random.default_rng(0)
x = random.normal(size=(256, 8)).astype("float32")
y = np.sin(x @ random.normal(size=(8, 1))).astype("float32")

model = keras.Sequential(
    [keras.Input((8,)), keras.layers.Dense(32, activation="tanh"), keras.layers.Dense(1)]
)
sgd = ao.keras.SGD(lr=0.05, decay=1e-6, momentum=0.9, nesterov=True)
model.compile(loss="mean_squared_error", optimizer=sgd)


def losses(trained, epochs, **kwargs):
    """Train on the same batches in the same order."""
    return trained.fit(x, y, epochs=epochs, shuffle=False, verbose=0, **kwargs).history["loss"]


halve = keras.callbacks.LearningRateScheduler(lambda epoch, lr: lr / 2 if epoch == 5 else lr)
first = losses(model, 10, callbacks=[halve])
print(f"loss {first[0]:.4f} after 1 epoch, {first[-1]:.4f} after 10, lr {float(sgd.lr):.4f}")

# %%
# The file has the state of the optimizer, too.

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.keras"
    model.save(path)
    again = keras.models.load_model(path)
same = losses(model, 10) == losses(again, 10)
print(f"{type(again.optimizer).__name__} went on {'exactly' if same else 'otherwise'}")
