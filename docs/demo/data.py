"""The handwritten digits of scikit-learn, split, scaled and cut into batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arrayoptim._cli.errors import CommandError

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Parameters = dict[str, dict[str, Floats]]

HIDDEN = 64
CLASSES = 10
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Problem:
    """Everything that every run has in common, on the host.

    Parameters
    ----------
    train, test : ndarray of float32, shape (samples, 64)
        Pixels in [0, 1].
    train_classes : ndarray of float32, shape (samples, 10)
        One-hot classes of `train`.
    train_labels, test_labels : ndarray of int64, shape (samples,)
        Classes of `train` and `test` as numbers.
    start : dict
        The parameters at which every run begins.
    batches : list of ndarray of int64
        The rows of `train` that each step uses, in order, over all epochs.
    steps_per_epoch : int
        How many of `batches` make one epoch.
    """

    train: Floats
    test: Floats
    train_classes: Floats
    train_labels: Indices
    test_labels: Indices
    start: Parameters
    batches: list[Indices]
    steps_per_epoch: int

    @property
    def half(self) -> int:
        """The step after which the checkpoint is written."""
        return len(self.batches) // 2


def load(epochs: int, batch_size: int, seed: int) -> Problem:
    """Read the digits and draw split, batches and start values from one seed.

    Parameters
    ----------
    epochs, batch_size : int
        Number of passes over the training set, and samples per step.
    seed : int
        Seed of everything random.

    Returns
    -------
    Problem
        The common ground of all runs.

    Raises
    ------
    CommandError
        If there would be fewer than two steps, so that no run could stop halfway.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(seed)
    order = random.permutation(len(pixels))
    cut = round(TEST_SHARE * len(pixels))
    test, train = order[:cut], order[cut:]
    pixels = (pixels / 16).astype(np.float32)
    labels = labels.astype(np.int64)
    batches = _batches(len(train), epochs, batch_size, random)
    return Problem(
        train=pixels[train],
        test=pixels[test],
        train_classes=np.eye(CLASSES, dtype=np.float32)[labels[train]],
        train_labels=labels[train],
        test_labels=labels[test],
        start=_start(pixels.shape[1], random),
        batches=batches,
        steps_per_epoch=len(batches) // epochs,
    )


def _batches(count: int, epochs: int, size: int, random: np.random.Generator) -> list[Indices]:
    """Shuffle anew for each epoch and cut into batches; the last of an epoch may be smaller."""
    orders = [random.permutation(count) for _ in range(epochs)]
    batches = [order[i : i + size] for order in orders for i in range(0, count, size)]
    if len(batches) < 2:
        raise CommandError(
            f"the demo stops half-way, so it needs 2 steps at least; got {len(batches)} of up to "
            f"{size} samples: ask for more epochs or smaller batches",
            code=2,
        )
    return batches


def _start(pixels: int, random: np.random.Generator) -> Parameters:
    """Draw the start values: Glorot's uniform kernels, zero biases."""

    def layer(inputs: int, outputs: int) -> dict[str, Floats]:
        bound = np.sqrt(6 / (inputs + outputs))
        kernel = random.uniform(-bound, bound, (inputs, outputs))
        return {"kernel": kernel.astype(np.float32), "bias": np.zeros(outputs, np.float32)}

    return {"hidden": layer(pixels, HIDDEN), "output": layer(HIDDEN, CLASSES)}
