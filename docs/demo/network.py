"""A two-layer classifier and its gradients, once for every array library."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

Array = Any
Layers = dict[str, dict[str, Array]]


def loss_and_gradients(params: Layers, x: Array, classes: Array) -> tuple[Array, Layers]:
    """Return the mean cross-entropy of a batch and its gradients.

    Parameters
    ----------
    params : dict
        ``{"hidden": {"kernel", "bias"}, "output": {"kernel", "bias"}}``.
    x : array, shape (samples, pixels)
        The batch.
    classes : array, shape (samples, classes)
        The one-hot classes.

    Returns
    -------
    loss : array, 0-d
        The mean over the batch.
    gradients : dict
        Same structure as `params`.
    """
    xp = array_namespace(x)
    hidden, output = params["hidden"], params["output"]
    h = xp.tanh(x @ hidden["kernel"] + hidden["bias"])
    z = h @ output["kernel"] + output["bias"]
    z = z - xp.max(z, axis=1, keepdims=True)
    e = xp.exp(z)
    total = xp.sum(e, axis=1, keepdims=True)
    samples = x.shape[0]
    loss = xp.sum(classes * (xp.log(total) - z)) / samples
    dz = (e / total - classes) / samples
    dh = (dz @ output["kernel"].T) * (1 - h * h)
    gradients = {
        "hidden": {"kernel": x.T @ dh, "bias": xp.sum(dh, axis=0)},
        "output": {"kernel": h.T @ dz, "bias": xp.sum(dz, axis=0)},
    }
    return loss, gradients


def predict(params: Layers, x: Array) -> Array:
    """Return the most likely class of each sample.

    Parameters
    ----------
    params : dict
        As for `loss_and_gradients`.
    x : array, shape (samples, pixels)
        The samples.

    Returns
    -------
    array of int, shape (samples,)
        The classes.
    """
    xp = array_namespace(x)
    hidden, output = params["hidden"], params["output"]
    h = xp.tanh(x @ hidden["kernel"] + hidden["bias"])
    return xp.argmax(h @ output["kernel"] + output["bias"], axis=1)
