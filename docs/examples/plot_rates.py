"""
Which learning rate?
====================

The same problem, 100 steps with each of many rates. A rule whose valley is wide is easy to tune;
the valleys of two rules may lie two powers of ten apart. `Prodigy` and `DoG` find a rate by
themselves.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

import arrayoptim as ao

x, y = load_breast_cancer(return_X_y=True)
x = (x - x.mean(axis=0)) / x.std(axis=0)


def loss_and_grads(w):
    """Return the loss of a logistic regression over all data, and its gradient."""
    z = x @ w
    return np.mean(np.logaddexp(0, z) - y * z), x.T @ (1 / (1 + np.exp(-z)) - y) / len(y)


def final(optimizer):
    """Return the loss after 100 steps."""
    with np.errstate(over="ignore"):
        return ao.minimize(loss_and_grads, np.zeros(30), optimizer, steps=100).history[-1]


# %%
# Take the largest rate that is still left of the cliff, or a third of it where batches are small.

rates = np.logspace(-4, 2, 25)
makers = {
    "SGD": ao.SGD,
    "SGD, momentum 0.9": lambda lr: ao.SGD(lr=lr, momentum=0.9),
    "Adam": ao.Adam,
    "Lion": ao.Lion,
}
colours = ["#4477AA", "#66CCEE", "#EE6677", "#228833"]
figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
for (name, make), colour in zip(makers.items(), colours, strict=True):
    axes.plot(rates, [final(make(lr=rate)) for rate in rates], ".-", color=colour, label=name)
for optimizer, dash in ((ao.Prodigy(), "--"), (ao.DoG(), ":")):
    name = f"{type(optimizer).__name__}, no rate to choose"
    axes.axhline(final(optimizer), color="#888888", linestyle=dash, label=name)
axes.set(xscale="log", yscale="log", ylim=(0.03, 2), xlabel="learning rate")
axes.set_ylabel("loss after 100 steps")
figure.legend(loc="outside right upper", frameon=False, fontsize=9)
plt.show()
