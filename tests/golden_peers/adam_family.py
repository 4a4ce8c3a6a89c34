"""Record 20 steps of public implementations of the Adam family and of the sign rules.

``python tests/golden_peers/adam_family.py`` writes ``adam_family.json``, which says what was
called, and ``adam_family.npz``, what came out, beside itself. It needs torch, jax, optax and
pytorch_optimizer, and not this library. Everything is computed in float64.

Where conventions differ, the call or our hyperparameters make up for it:

- torch adds epsilon elsewhere in AdamW and RAdam: there ``eps=0``. Its NAdam keeps the product of
  momenta in torch's default type, set to float64 here.
- optax's and pytorch_optimizer's Yogi begin the first moment with the initial accumulator too:
  `from_zero` undoes it for optax, and for the other the value is 0.
- pytorch_optimizer's Adan decays before the step with ``weight_decouple=True``, as here.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytorch_optimizer
import torch

jax.config.update("jax_enable_x64", True)
torch.set_default_dtype(torch.float64)

STEPS, SHAPE = 20, (3, 4)
RANDOM = np.random.default_rng(6)
START = RANDOM.normal(size=SHAPE)
GRADIENTS = RANDOM.normal(size=(STEPS, *SHAPE)) * 10 ** RANDOM.uniform(-2, 1, size=(STEPS, *SHAPE))

BETAS = {"beta_1": 0.8, "beta_2": 0.95}
CASES: list[tuple[str, dict[str, Any], str]] = [
    (
        "AdamW",
        {"lr": 0.1, **BETAS, "epsilon": 0.0},
        "torch.optim.AdamW(params, lr=0.1, betas=(0.8, 0.95), eps=0, weight_decay=0.01)",
    ),
    (
        "AdamW",
        {"lr": 0.1, **BETAS, "epsilon": 0.0, "amsgrad": True, "weight_decay": 0.2},
        "torch.optim.AdamW(params, lr=0.1, betas=(0.8, 0.95), eps=0, weight_decay=0.2, "
        "amsgrad=True)",
    ),
    (
        "NadamW",
        {"lr": 0.1, **BETAS, "epsilon": 1e-3, "schedule_decay": 0.1, "weight_decay": 0.2},
        "torch.optim.NAdam(params, lr=0.1, betas=(0.8, 0.95), eps=1e-3, momentum_decay=0.1, "
        "weight_decay=0.2, decoupled_weight_decay=True)",
    ),
    (
        "RAdam",
        {"lr": 0.1, **BETAS, "epsilon": 0.0},
        "torch.optim.RAdam(params, lr=0.1, betas=(0.8, 0.95), eps=0)",
    ),
    (
        "RAdam",
        {"lr": 0.1, **BETAS, "epsilon": 1e-3, "threshold": 4.0},
        "optax.radam(0.1, b1=0.8, b2=0.95, eps=1e-3, threshold=4.0)",
    ),
    (
        "AdaBelief",
        {"lr": 0.1, **BETAS, "epsilon": 1e-3},
        "optax.adabelief(0.1, b1=0.8, b2=0.95, eps=1e-3, eps_root=1e-3)",
    ),
    ("AdaBelief", {"lr": 0.1}, "optax.adabelief(0.1)"),
    (
        "Yogi",
        {"lr": 0.1, **BETAS, "epsilon": 1e-2, "initial_accumulator_value": 0.5},
        "from_zero(optax.scale_by_yogi(b1=0.8, b2=0.95, eps=1e-2, "
        "initial_accumulator_value=0.5), 0.1)",
    ),
    (
        "Yogi",
        {"initial_accumulator_value": 0.0, "weight_decay": 0.2},
        "pytorch_optimizer.Yogi(params, lr=0.01, initial_accumulator=0.0, weight_decay=0.2, "
        "weight_decouple=True)",
    ),
    ("Adan", {"lr": 0.1}, "pytorch_optimizer.Adan(params, lr=0.1)"),
    (
        "Adan",
        {"lr": 0.1, **BETAS, "beta_3": 0.9, "epsilon": 1e-3, "weight_decay": 0.2},
        "pytorch_optimizer.Adan(params, lr=0.1, betas=(0.8, 0.95, 0.9), eps=1e-3, "
        "weight_decay=0.2, weight_decouple=True)",
    ),
    (
        "AdEMAMix",
        {"lr": 0.1, **BETAS, "beta_3": 0.99, "alpha": 3.0, "epsilon": 1e-3},
        "optax.contrib.ademamix(0.1, b1=0.8, b2=0.95, b3=0.99, alpha=3.0, eps=1e-3, "
        "weight_decay=0.0)",
    ),
    (
        "AdEMAMix",
        {"lr": 0.1, "alpha_warmup": 12, "beta_3_warmup": 12, "weight_decay": 0.2},
        "pytorch_optimizer.AdEMAMix(params, lr=0.1, t_alpha_beta3=12, weight_decay=0.2, "
        "weight_decouple=True)",
    ),
    (
        "ADOPT",
        {"lr": 0.1, **BETAS, "epsilon": 0.1},
        "optax.contrib.adopt(0.1, b1=0.8, b2=0.95, eps=0.1)",
    ),
    ("ADOPT", {"lr": 0.1}, "optax.contrib.adopt(0.1)"),
    (
        "Lion",
        {"lr": 0.1, **BETAS, "weight_decay": 0.2},
        "optax.lion(0.1, b1=0.8, b2=0.95, weight_decay=0.2)",
    ),
    ("Signum", {"lr": 0.1, "momentum": 0.8}, "optax.signum(0.1, beta=0.8)"),
]


def from_zero(scale: optax.GradientTransformation, lr: float) -> optax.GradientTransformation:
    """Return an optimizer of optax whose first moment begins with zero."""

    def init(params: Any) -> Any:
        state = scale.init(params)
        return state._replace(mu=jnp.zeros_like(state.mu))

    begun = optax.GradientTransformation(init, scale.update)
    return optax.chain(begun, optax.scale_by_learning_rate(lr))


def path_of(call: str) -> np.ndarray:
    """Return the parameters after each step of what a call makes."""
    p = torch.nn.Parameter(torch.tensor(START))
    known = {"torch": torch, "optax": optax, "pytorch_optimizer": pytorch_optimizer}
    made = eval(call, {**known, "from_zero": from_zero, "params": [p]})
    path: list[Any] = []
    if isinstance(made, torch.optim.Optimizer):
        for g in GRADIENTS:
            p.grad = torch.tensor(g)
            made.step()
            path.append(p.detach().numpy().copy())
        return np.array(path)
    q = jnp.asarray(START)
    state = made.init(q)
    for g in GRADIENTS:
        updates, state = made.update(jnp.asarray(g), state, q)
        q = optax.apply_updates(q, updates)
        path.append(np.asarray(q))
    return np.array(path)


def main() -> None:
    """Write both files."""
    arrays = {"start": START, "gradients": GRADIENTS}
    cases = []
    for name, ours, call in CASES:
        package = next(p for p in ("pytorch_optimizer", "optax", "torch") if f"{p}." in call)
        path = f"{len(cases):02d}_{name}"
        arrays[path] = path_of(call)
        cases.append(
            {
                "optimizer": name,
                "hyperparameters": ours,
                "package": package,
                "version": importlib.metadata.version(package).partition("+")[0],
                "call": call,
                "path": path,
            }
        )
    target = Path(__file__).with_suffix(".json")
    target.write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")
    np.savez_compressed(target.with_suffix(".npz"), **arrays)


if __name__ == "__main__":
    main()
