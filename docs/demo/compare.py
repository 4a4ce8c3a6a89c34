"""The same training with another library's optimizers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .data import Parameters, Problem
from .network import loss_and_gradients, predict

RIVALS = ("keras", "torch")

TORCH: dict[str, tuple[str, dict[str, str]]] = {
    "SGD": ("SGD", {"lr": "lr", "momentum": "momentum", "nesterov": "nesterov"}),
    "RMSprop": ("RMSprop", {"lr": "lr", "rho": "alpha", "epsilon": "eps"}),
    "Adagrad": ("Adagrad", {"lr": "lr", "epsilon": "eps"}),
    "Adadelta": ("Adadelta", {"lr": "lr", "rho": "rho", "epsilon": "eps"}),
    "Adam": ("Adam", {"lr": "lr", "epsilon": "eps"}),
    "Adamax": ("Adamax", {"lr": "lr", "epsilon": "eps"}),
    "Nadam": ("NAdam", {"lr": "lr", "schedule_decay": "momentum_decay", "epsilon": "eps"}),
}
"""Counterparts in ``torch.optim``: class, and our hyperparameters' names there."""

KERAS: dict[str, dict[str, str]] = {
    "SGD": {"momentum": "momentum", "nesterov": "nesterov"},
    "RMSprop": {"rho": "rho", "epsilon": "epsilon"},
    "Adagrad": {"epsilon": "epsilon"},
    "Adadelta": {"rho": "rho", "epsilon": "epsilon"},
    "Adam": {"beta_1": "beta_1", "beta_2": "beta_2", "epsilon": "epsilon"},
    "Adamax": {"beta_1": "beta_1", "beta_2": "beta_2", "epsilon": "epsilon"},
    "Nadam": {"beta_1": "beta_1", "beta_2": "beta_2", "epsilon": "epsilon"},
}
"""Counterparts of the same name in Keras 3: our hyperparameters' names there."""

NOTES: dict[str, dict[str, str]] = {
    "torch": {
        "Adam": "torch adds epsilon after the bias correction, Keras 2 and arrayoptim before it",
        "Adamax": "torch adds epsilon to each |g|, Keras 2 and arrayoptim to their running maximum",
    },
    "keras": {
        "RMSprop": "Keras 3 adds epsilon inside the root, Keras 2 and arrayoptim outside",
        "Adagrad": "Keras 3 adds epsilon inside the root, Keras 2 and arrayoptim outside",
        "Nadam": "Keras 3 has no schedule_decay: its momentum schedule is 250 times as fast",
    },
}
"""Where a counterpart's formula differs for a reason other than rounding."""


def known(rival: str, name: str) -> bool:
    """Whether the other library has a counterpart.

    Parameters
    ----------
    rival : str
        ``"keras"`` or ``"torch"``.
    name : str
        A registered optimizer.

    Returns
    -------
    bool
        True if there is one.
    """
    return name in (TORCH if rival == "torch" else KERAS)


def accuracy(
    rival: str, name: str, optimizer: Any, problem: Problem, tick: Callable[[], Any]
) -> float:
    """Train from the same start on the same batches with the other library's counterpart.

    Parameters
    ----------
    rival : str
        ``"keras"`` or ``"torch"``.
    name : str
        A registered optimizer that has a counterpart.
    optimizer : Optimizer
        Ours, from which the hyperparameters are read.
    problem : Problem
        Data, batches and start values.
    tick : callable
        Called after each step.

    Returns
    -------
    float
        The share of test samples classified correctly.
    """
    train = _torch if rival == "torch" else _keras
    params = train(name, optimizer, problem, tick)
    return float(np.mean(predict(params, problem.test) == problem.test_labels))


def _torch(name: str, optimizer: Any, problem: Problem, tick: Callable[[], Any]) -> Parameters:
    """Train with torch.optim, torch's own layers and torch's own gradients."""
    import torch
    from torch.nn import functional

    params = {
        layer: {key: torch.tensor(value, requires_grad=True) for key, value in arrays.items()}
        for layer, arrays in problem.start.items()
    }
    hidden, output = params["hidden"], params["output"]
    rival = _torch_rival(name, optimizer, [*hidden.values(), *output.values()])
    for rows in problem.batches:
        x, labels = torch.tensor(problem.train[rows]), torch.tensor(problem.train_labels[rows])
        h = torch.tanh(functional.linear(x, hidden["kernel"].T, hidden["bias"]))
        logits = functional.linear(h, output["kernel"].T, output["bias"])
        rival.zero_grad()
        functional.cross_entropy(logits, labels).backward()
        rival.step()
        tick()
    return {
        layer: {key: tensor.detach().numpy() for key, tensor in tensors.items()}
        for layer, tensors in params.items()
    }


def _torch_rival(name: str, optimizer: Any, tensors: list[Any]) -> Any:
    """Build torch's counterpart over some tensors."""
    import torch

    word, names = TORCH[name]
    config = {theirs: getattr(optimizer, ours) for ours, theirs in names.items()}
    if hasattr(optimizer, "beta_1"):
        config["betas"] = (optimizer.beta_1, optimizer.beta_2)
    return getattr(torch.optim, word)(tensors, **config)


def _keras(name: str, optimizer: Any, problem: Problem, tick: Callable[[], Any]) -> Parameters:
    """Train with a Keras 3 optimizer, on whatever backend Keras is set to, and our gradients."""
    keras = importlib.import_module("keras")
    config = {theirs: getattr(optimizer, ours) for ours, theirs in KERAS[name].items()}
    if name == "Adagrad":
        config["initial_accumulator_value"] = 0.0
    rival = getattr(keras.optimizers, name)(learning_rate=optimizer.lr, **config)
    places = [(layer, key) for layer in problem.start for key in problem.start[layer]]
    variables = [keras.Variable(problem.start[layer][key]) for layer, key in places]
    params = {layer: dict(arrays) for layer, arrays in problem.start.items()}
    for rows in problem.batches:
        _, gradients = loss_and_gradients(params, problem.train[rows], problem.train_classes[rows])
        tensors = [keras.ops.convert_to_tensor(gradients[layer][key]) for layer, key in places]
        rival.apply(tensors, variables)
        for (layer, key), variable in zip(places, variables, strict=True):
            params[layer][key] = keras.ops.convert_to_numpy(variable.value)
        tick()
    return params
