"""L-BFGS like torch's: one step is several iterations, each with or without a line search."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...config.validation import finite
from ...search.line import Taken, along
from ...search.memory import two_loops
from ...search.vocabulary import Plain
from ...search.wolfe import USUAL, Point
from .shards import Tensor, in_parts

LEAST_CURVATURE = 1e-10
"""Pairs are stored if the inner product of step and gradient change exceeds this."""


class LBFGS(torch.optim.Optimizer):  # type: ignore[misc]
    """Limited-memory BFGS with torch's arguments, results and state.

    The parameters are one vector, in one group. `step` takes a closure and calls it whenever it
    needs a loss; the loss must be the same function in every call.

    Parameters
    ----------
    params : iterable
        Parameters, or pairs of name and parameter, on one device.
    lr : float in [0, inf)
        The step size along the direction, or the first one that a line search tries.
    max_iter : int in [0, inf)
        Maximum number of iterations per step.
    max_eval : int in [0, inf), optional
        Maximum number of closure evaluations per step; ``max_iter * 5 // 4`` if None.
    tolerance_grad : float
        A step ends when no entry of the gradient exceeds this.
    tolerance_change : float
        A step ends when the changes of the loss or of all parameters are below this.
    history_size : int in [1, inf)
        Number of pairs of steps and gradient changes that are stored.
    line_search_fn : {None, "strong_wolfe"}
        The line search for the step size, if any.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If a number lies outside its interval, or there are several parameter groups.
    RuntimeError
        If another line search is named.

    Examples
    --------
    >>> import torch
    >>> import arrayoptim as ao
    >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0]))
    >>> optimizer = ao.torch.LBFGS([x], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(3):
    ...     _ = optimizer.step(closure)
    >>> [round(number, 4) for number in x.tolist()]
    [1.0, 1.0]
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        _require_counts(max_iter=max_iter)
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        _require(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add the parameters; only one group is supported.

        Parameters
        ----------
        param_group : dict
            ``"params"``, and settings that override those of the constructor.

        Raises
        ------
        TypeError, ValueError
            If there already is a group, a setting is invalid, or parameters are sharded.
        """
        if isinstance(param_group, dict):
            _require({**self.defaults, **param_group})
        super().add_param_group(param_group)
        if len(self.param_groups) > 1:
            self.param_groups.pop()
            raise ValueError(
                "LBFGS doesn't support per-parameter options (parameter groups): found a second "
                "group, wanted all parameters in one, as one step moves all"
            )
        if any(map(in_parts, self.param_groups[0]["params"])):
            raise ValueError(
                "LBFGS: found parameters that are sharded over processes, wanted whole ones, as a "
                "step treats them as one vector; replicate them, as DistributedDataParallel does"
            )

    def _patch_step_function(self) -> None:
        """Keep torch.compile out of the step, whose iterations go by numbers, as torch does."""
        cls: Any = type(self)
        if not getattr(cls.step, "hooked", False):
            cls.step = torch.compiler.disable(cls.step)
        super()._patch_step_function()

    def step(self, closure: Callable[[], Any]) -> Any:
        """Take up to ``max_iter`` steps along directions of L-BFGS.

        Parameters
        ----------
        closure : callable
            Clears the gradients, computes them and returns the loss.

        Returns
        -------
        object
            The closure's first result, before any step.

        Raises
        ------
        TypeError
            If there is no closure, or its result is not a number.
        ValueError, RuntimeError
            If a setting in the group is invalid. Nothing has changed then.
        """
        if not callable(closure):
            raise TypeError(
                f"LBFGS.step: found closure={closure!r}, wanted a function that clears the "
                "gradients, computes them and returns the loss; one step calls it several times"
            )
        (group,) = self.param_groups
        _require(group)
        state = self.state[group["params"][0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        with torch.no_grad():
            differentiated = torch.enable_grad()(closure)
            first = differentiated()
            _Steps(group, state, differentiated, first).run()
        return first


class _Numbers(Plain):
    """Arithmetic on scalars that are 0-d tensors."""

    def root(self, x: Any) -> Any:
        """Return the square root, 0 for negative numbers; not correctly rounded, like torch's."""
        return torch.as_tensor(x).clamp(min=0).sqrt()


class _Steps:
    """The iterations of one step, on state in torch's form."""

    def __init__(
        self, group: dict[str, Any], state: dict[str, Any], closure: Callable[[], Any], first: Any
    ) -> None:
        self._group, self._state, self._closure = group, state, closure
        self._params: Sequence[Tensor] = group["params"]
        lr = group["lr"]
        # A tensor remains one: as in torch, its dtype determines that of derived scalars.
        self._lr = lr.detach().squeeze() if isinstance(lr, torch.Tensor) else lr
        self._loss = _number(first)
        self._evaluations = 0
        self._count(1)
        self._gradient = _gradient(self._params)

    def _count(self, evaluations: int) -> None:
        self._evaluations += evaluations
        self._state["func_evals"] += evaluations

    def run(self) -> None:
        """Iterate until one of the limits is reached."""
        if self._level():
            return
        state, begun = self._state, self._state["n_iter"]
        if not begun:
            empty: dict[str, list[Any]] = {"old_dirs": [], "old_stps": [], "ro": []}
            state.update(d=None, t=None, **empty, H_diag=1, prev_flat_grad=None, prev_loss=None)
        while state["n_iter"] - begun < self._group["max_iter"]:
            state["n_iter"] += 1
            if not self._aimed() or self._moved(state["n_iter"] - begun):
                return

    def _level(self) -> bool:
        return bool(self._gradient.abs().max() <= self._group["tolerance_grad"])

    def _aimed(self) -> bool:
        """Choose a direction and the first step size; return whether it is a descent direction."""
        state, gradient = self._state, self._gradient
        if state["n_iter"] == 1:
            state["d"] = -gradient
            t = min(1.0, 1.0 / gradient.abs().sum()) * self._lr
        else:
            self._learn()
            pairs = list(zip(state["old_stps"], state["old_dirs"], state["ro"], strict=True))
            state["d"] = two_loops(pairs, state["H_diag"], gradient, torch.dot, _plus)
            t = self._lr
        state["t"], state["prev_loss"] = t, self._loss
        state["prev_flat_grad"] = gradient.clone(memory_format=torch.contiguous_format)
        self._slope = gradient.dot(state["d"])
        return not self._slope > -self._group["tolerance_change"]

    def _learn(self) -> None:
        """Store the last step and its gradient change."""
        state = self._state
        change, step = self._gradient - state["prev_flat_grad"], state["d"] * state["t"]
        curvature = change.dot(step)
        if not curvature > LEAST_CURVATURE:
            return
        rows = ("old_dirs", change), ("old_stps", step), ("ro", 1.0 / curvature)
        for name, newest in rows:
            held = state[name]
            if len(held) == self._group["history_size"]:
                held.pop(0)
            held.append(newest)
        state["H_diag"] = curvature / change.dot(change)

    def _moved(self, iteration: int) -> bool:
        """Take a step along the direction; return whether it is the last one."""
        group, state = self._group, self._state
        way, last = state["d"], iteration == group["max_iter"]
        if group["line_search_fn"] is not None:
            found = self._searched(way)
            self._loss, self._gradient, state["t"] = found.value, found.gradient, found.t
            self._count(found.evaluations)
            _move(self._params, state["t"], way)
        else:
            _move(self._params, state["t"], way)
            if not last:
                self._loss = _number(self._closure())
                self._gradient = _gradient(self._params)
                self._count(1)
        if last or self._evaluations >= group["max_eval"] or self._level():
            return True
        little = group["tolerance_change"]
        short = (way * state["t"]).abs().max() <= little
        return bool(short) or abs(self._loss - state["prev_loss"]) < little

    def _searched(self, way: Tensor) -> Taken:
        """Search along a direction, without changing the parameters."""
        kept = [p.clone(memory_format=torch.contiguous_format) for p in self._params]

        def evaluate(t: Any) -> tuple[float, Tensor, Tensor]:
            _move(self._params, t, way)
            value = _number(self._closure())
            gradient = _gradient(self._params)
            for p, x in zip(self._params, kept, strict=True):
                p.copy_(x)
            return value, gradient.dot(way), gradient

        start = Point(0.0, self._loss, self._slope)
        bounds = USUAL._replace(trials=self._group["max_eval"] - self._evaluations)
        largest = way.abs().max()
        return along(evaluate, start, self._gradient, self._state["t"], largest, bounds, _Numbers())


def _number(loss: Any) -> float:
    # Torch warns if a scalar that requires grad is converted to a float.
    return float(loss.detach() if isinstance(loss, torch.Tensor) else loss)


def _plus(x: Tensor, times: Any, y: Tensor) -> Tensor:
    return x.add(y, alpha=times)


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x


def _gradient(params: Sequence[Tensor]) -> Tensor:
    """Return the gradients as one vector, with zeros for missing ones."""
    rows = []
    for p in params:
        g = torch.zeros_like(p) if p.grad is None else p.grad
        rows.append(_real(g.to_dense() if g.is_sparse else g).reshape(-1))
    return torch.cat(rows, 0)


def _move(params: Sequence[Tensor], t: Any, way: Tensor) -> None:
    """Add a multiple of a vector to the parameters, in place."""
    start = 0
    for p in map(_real, params):
        p.add_(way[start : start + p.numel()].view_as(p), alpha=t)
        start += p.numel()


# ---- settings


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) else value


def _require_counts(**counts: Any) -> None:
    for name, count in counts.items():
        low = int(name == "history_size")
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"LBFGS.{name} must be an integer, got {count!r}")
        if count < low:
            raise ValueError(f"LBFGS.{name} must be in [{low}, inf), got {count!r}")


def _require(group: dict[str, Any]) -> None:
    """Refuse invalid settings, before anything has changed."""
    lr = group["lr"]
    if isinstance(lr, torch.Tensor) and lr.numel() != 1:
        raise ValueError(f"Tensor lr must be 1-element: LBFGS.lr has shape {tuple(lr.shape)}")
    if not finite(_plain(lr), "LBFGS.lr") >= 0:
        raise ValueError(f"Invalid learning rate: LBFGS.lr must be in [0, inf), got {lr!r}")
    for name in ("tolerance_grad", "tolerance_change"):
        if _plain(group[name]) not in (math.inf, -math.inf):
            finite(_plain(group[name]), f"LBFGS.{name}")
    _require_counts(**{name: group[name] for name in ("max_iter", "max_eval", "history_size")})
    if group["line_search_fn"] not in (None, "strong_wolfe"):
        raise RuntimeError(
            f"only 'strong_wolfe' is supported: LBFGS.line_search_fn must be None or that, got "
            f"{group['line_search_fn']!r}"
        )
