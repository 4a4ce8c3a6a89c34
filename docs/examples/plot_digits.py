"""
Handwritten digits in NumPy
===========================

A network with one hidden layer learns the 8 by 8 digits of scikit-learn. The gradients are written
by hand; the optimizer, its schedule, clipping, weight decay and averages are five arguments.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import arrayoptim as ao

x, labels = load_digits(return_X_y=True)
x, x_test, labels, labels_test = train_test_split(x / 16, labels, test_size=0.2, random_state=0)


def forward(params, x):
    """Return the hidden layer, and the probabilities of the ten digits."""
    hidden = np.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    scores = hidden @ params["output"]["kernel"] + params["output"]["bias"]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, scores / scores.sum(axis=1, keepdims=True)


def loss_and_grads(params, x, labels):
    """Return the cross-entropy, and its gradients in the tree of the parameters."""
    hidden, p = forward(params, x)
    error = (p - np.eye(10)[labels]) / len(x)
    back = error @ params["output"]["kernel"].T * (1 - hidden**2)
    grads = {
        "hidden": {"kernel": x.T @ back, "bias": back.sum(0)},
        "output": {"kernel": hidden.T @ error, "bias": error.sum(0)},
    }
    return -np.mean(np.log(p[np.arange(len(x)), labels] + 1e-12)), grads


# %%
# 15 epochs in batches of 64. Weights shrink, biases do not, and the rate warms up before it falls.

EPOCHS, BATCH = 15, 64
rng = np.random.default_rng(0)
params = {
    "hidden": {"kernel": rng.normal(scale=0.1, size=(64, 64)), "bias": np.zeros(64)},
    "output": {"kernel": rng.normal(scale=0.1, size=(64, 10)), "bias": np.zeros(10)},
}
steps = EPOCHS * -(-len(x) // BATCH)
optimizer = ao.AdamW(
    lr=ao.schedules.CosineDecay(0.0, steps, warmup_target=0.02, warmup_steps=steps // 20),
    weight_decay=0.1,
    exclude=["*/bias"],
    clipnorm=1.0,
    ema_momentum=0.98,
)
losses, rates, norms = [], [], []
for _ in range(EPOCHS):
    order = rng.permutation(len(x))
    for rows in np.split(order, range(BATCH, len(x), BATCH)):
        loss, grads = loss_and_grads(params, x[rows], labels[rows])
        params = optimizer.apply(grads, params)
        losses.append(loss)
        rates.append(optimizer.last_step.hyperparameters["lr"])
        norms.append(optimizer.last_step.global_norm)

figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for place, (title, values) in zip(
    axes, {"loss": losses, "learning rate": rates, "norm of the gradients": norms}.items()
):
    place.plot(values, color="#4477AA", linewidth=1)
    place.set(title=title, xlabel="step")
axes[0].set_yscale("log")
plt.show()

# %%
# The averages are often a little better than the parameters; here both know nearly every digit.


def accuracy(params):
    """Return the share of digits of the test set that are recognized."""
    return np.mean(forward(params, x_test)[1].argmax(axis=1) == labels_test)


print(f"parameters {accuracy(params):.3f}, averages {accuracy(optimizer.averages(params)):.3f}")
