"""The base class of optimizers with torch's interface and this library's rules."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import torch

from ..._typing import Scalar
from ...arrays.identity import same_objects
from ...arrays.rows import magnitudes
from ...config.registry import refuse_base
from ...engines import Contents, carry_out, sizes_of
from ...gradients import Pending
from ...optimizer import Optimizer
from ...step.metrics import number_told, require_guard
from ...step.report import StepReport
from ...step.restore import LoadReport
from ...step.summary import Summary, joined
from .backward import BackwardSteps
from .capturing import NOT_ASKED, NOT_BEGUN, refuse_unready
from .counts import apart
from .derived_numbers import with_derived
from .group_settings import TOGETHER, GroupSettings
from .hooks import hooked, untraced
from .loading import Loaded, checked, wrapped
from .matching import BY_PLACE, Names, fitted
from .param_group import Part
from .shards import Tensor, local, norm_over_all
from .sparse import part_class
from .spelling import CLASS, Spelling
from .state_entries import fitted as fitted_entries
from .state_entries import numbers_on_host, summarized


class TorchOptimizer(torch.optim.Optimizer):  # type: ignore[misc]
    """Steps the parameters of a torch model by a rule of this library.

    Parameters
    ----------
    params : iterable
        Parameters, pairs of name and parameter, or dicts with ``"params"`` and their own
        settings, as for every torch optimizer.
    *further
        Further positional arguments, in the order of torch's class of the same name.
    **settings
        The other arguments of that class, and this library's hyperparameters, as numbers or
        strings; ``beta_1`` is accepted for the first of ``betas``.

    Raises
    ------
    TypeError
        If a setting is unknown, passed twice, a schedule, or of the wrong type, or there are
        too many positional arguments.
    ValueError
        If a setting is outside its interval, or there are no parameters.
    """

    core: ClassVar[type[Optimizer]]
    spelling: ClassVar[Spelling]
    _aside: ClassVar[Callable[[TorchOptimizer], None]]
    """Functions that take steps; torch.compile must not trace them."""
    _backward: BackwardSteps | None = None
    _told = False
    """Whether hooks and profilers have been notified of the current step."""

    def __init__(self, params: Any, *further: Any, **settings: Any) -> None:
        refuse_base(type(self), "spelling", "arrayoptim.torch.Adam")
        for key, value in self.spelling.by_position(further).items():
            if key in settings:
                raise TypeError(
                    f"{type(self).__name__} got {key!r} twice: {value!r}, {settings[key]!r}"
                )
            settings[key] = value
        self._forget()
        super().__init__(params, self.spelling.defaults(settings))

    def _forget(self) -> None:
        """Discard caches that the next step recomputes."""
        self._contents = Contents({})
        self._losses: list[float] = []
        self._sizes: tuple[list[Any], Any] = [], None
        # What CUDA graphs read and write lives as long as the optimizer.
        self._graphs = [*getattr(self, "_graphs", ()), *self._captured()]
        self._parts: list[Part] = []
        if not hasattr(TorchOptimizer, "_aside"):
            # Not at import, where importing torch.compiler would take seconds; torch's base needs
            # it too.
            TorchOptimizer._aside = staticmethod(torch.compiler.disable(TorchOptimizer._advance))
            # So that the compiler stops once, where a step is called.
            untraced(TorchOptimizer.step)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse hyperparameters, even misspelt ones, as these are set in the parameter groups."""
        # Users may set `name`; torch itself sets only existing and private attributes.
        free = name.startswith("_") or name == "name" or name in self.__dict__
        if not free and not hasattr(type(self), name):
            cls = type(self).__name__
            if key := self.spelling.key_of(name):
                raise AttributeError(
                    f"{cls}: {name!r} is set in param_groups, in each group as group[{key!r}]"
                )
            if said := self.spelling.misspelt(name):
                raise AttributeError(
                    f"{cls} has no hyperparameter {name!r}{said}; they are set in param_groups"
                )
        super().__setattr__(name, value)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own settings.

        Parameters
        ----------
        param_group : dict
            ``"params"``, and settings that override those of the constructor.

        Raises
        ------
        TypeError, ValueError
            If a setting is invalid, or a parameter is already in another group. Nothing has changed
            then.
        """
        if isinstance(param_group, dict):
            if "params" not in param_group:
                raise ValueError(
                    f"a parameter group: found {', '.join(param_group)}, wanted also 'params'"
                )
            param_group = self.spelling.spelled(param_group, self.defaults)
            param_group["params"] = self._accepted(param_group["params"])
            param_group[CLASS] = self.spelling.name
            GroupSettings(self.spelling, {**self.defaults, **param_group})
        super().add_param_group(param_group)
        if self._backward is not None:
            self._backward.cover()

    def _accepted(self, params: Any) -> Any:
        """Return the parameters, checked as by torch's own class."""
        row, native = self.spelling.row, self.spelling.native
        if row is None or not row.particular or isinstance(params, torch.Tensor | set):
            return params
        assert native is not None
        params = list(params)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            native([{"params": params}])
        return params

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step with the gradients in the parameters' ``grad``.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and the gradients before the step.

        Returns
        -------
        object
            The result of the closure; None without one.

        Raises
        ------
        RuntimeError
            If a gradient is sparse and the class does not support that.
        TypeError, ValueError
            If a hyperparameter, a gradient or the state is invalid. Nothing has changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
            if self._guards_loss():
                self.tell_loss(loss)
        TorchOptimizer._aside(self)
        return loss

    def tell_loss(self, loss: Any) -> None:
        """Pass the loss of the next step, for ``skip_loss_spikes``.

        A step with a closure uses the closure's loss. The mean of several losses counts; do not
        include the factor of a ``GradScaler``. Reading a tensor on a GPU synchronizes with it.

        Parameters
        ----------
        loss : float or Tensor
            The loss; the same in all processes that take the same step.

        Raises
        ------
        TypeError
            If it is not a real number.
        ValueError
            If no parameter group has ``skip_loss_spikes``.

        Examples
        --------
        >>> import torch
        >>> import arrayoptim as ao
        >>> w = torch.zeros(1, requires_grad=True)
        >>> optimizer = ao.torch.SGD([w], lr=1.0, skip_loss_spikes=6.0)
        >>> loss = (w - 1.0).square().sum()
        >>> loss.backward()
        >>> optimizer.tell_loss(loss)
        >>> optimizer.step()
        """
        require_guard(self._guards_loss(), self.spelling.name)
        self._losses = [*self._losses, number_told(loss, self.spelling.name)]

    def _guards_loss(self) -> bool:
        return any(group["skip_loss_spikes"] is not None for group in self.param_groups)

    def step_in_backward(self, clip_by_last_norm: bool = False) -> BackwardSteps:
        """Step each parameter during the backward pass, and free its gradient at once.

        From now on ``loss.backward()`` takes the steps, and no gradient outlives it. Still call
        ``step()`` after it: it ends the step, notifies schedulers, and steps parameters whose
        gradients were set in another way. Each backward pass is one step: gradients are not
        accumulated over several passes, unscaled by a ``GradScaler``, or averaged over processes
        by ``DistributedDataParallel``.

        Parameters
        ----------
        clip_by_last_norm : bool
            Whether `clipnorm` uses the gradient norm of the previous step. In the first step, it is
            the norm of the gradients received so far.

        Returns
        -------
        BackwardSteps
            Call its ``remove()`` to turn this off.

        Raises
        ------
        ValueError
            If a setting needs all gradients at once (``clipnorm`` without `clip_by_last_norm`,
            ``nonfinite``, or a rule with totals over all parameters), if parameters are sharded
            over processes, or if it is already on.

        Examples
        --------
        >>> import torch
        >>> import arrayoptim as ao
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = ao.torch.AdamW(model.parameters(), clipnorm=1.0)
        >>> handle = optimizer.step_in_backward(clip_by_last_norm=True)
        >>> model(torch.ones(3, 2)).square().mean().backward()
        >>> optimizer.step()
        >>> model.weight.grad is None, int(optimizer.state[model.weight]["step"])
        (True, 1)
        """
        if self._backward is not None:
            raise ValueError(f"{type(self).__name__}.step_in_backward is already on")
        self._backward = BackwardSteps(self, clip_by_last_norm)
        return self._backward

    def reset(self) -> None:
        """Discard all state; the settings are kept, and the next step counts as the first."""
        self.state.clear()
        self._forget()

    def share_memory(self) -> None:
        """Make the state and move it to shared memory, as torch's Adagrad does."""
        for i in range(len(self.param_groups)):
            self._part(i).begin(self.state)
        for entry in self.state.values():
            for x in entry.values():
                if isinstance(x, torch.Tensor):
                    x.share_memory_()

    def state_dict(self) -> dict[str, Any]:
        """Return settings and state; no tensor is shared between parameters."""
        found: dict[str, Any] = super().state_dict()
        return with_derived(self, {**found, "state": apart(found["state"])})

    def load_state_dict(
        self,
        state_dict: dict[str, Any],
        strict: bool = True,
        hyperparameters: bool = True,
        names: Names | None = None,
    ) -> LoadReport:
        """Replace settings and state by copies of what `state_dict` returned.

        Parameters
        ----------
        state_dict : dict
            From an optimizer of the same class, this library's or torch's. If both it and this
            optimizer were made from named parameters, parameters are matched by name, whatever
            their order and groups; otherwise by position, which requires equal shapes in the same
            order.
        strict : bool
            Whether every difference is an error. Otherwise, parameters that are missing in the
            state or have another shape there start anew, and unexpected entries are ignored.
        hyperparameters : bool
            Whether to load the settings too. A group gets those with which its parameters were
            saved; a group of new parameters keeps its own.
        names : list of str, dict or callable, optional
            The names of the state's parameters in order, if it has none; or a dict or function that
            maps names in the state to names here.

        Returns
        -------
        Which parameters were matched, missing, unexpected or of another shape, and which
        settings have changed.
            settings have changed.

        Raises
        ------
        TypeError, ValueError
            If the state does not fit. Nothing has changed then.

        Warns
        -----
        UserWarning
            If only one of the two has names, so that parameters are matched by position.

        Examples
        --------
        >>> import torch
        >>> import arrayoptim as ao
        >>> old, new = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1, bias=False)
        >>> saved = ao.torch.Adam(old.named_parameters(), lr=0.1).state_dict()
        >>> optimizer = ao.torch.Adam(new.named_parameters())
        >>> report = optimizer.load_state_dict(saved, strict=False)
        >>> report.restored, report.unexpected, optimizer.param_groups[0]["lr"]
        (['weight'], ['bias'], 0.1)
        """
        report = LoadReport("torch")

        def prepared(optimizer: TorchOptimizer, given: dict[str, Any]) -> dict[str, Any]:
            nonlocal report
            given = checked(optimizer.spelling, given)
            given, report = fitted(optimizer, given, strict, hyperparameters, names)
            return wrapped(given)

        # Runs after users' hooks, and before torch casts the state to the parameters' dtype.
        hook = self.register_load_state_dict_pre_hook(prepared)
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()
        for note in report.notes:
            if note.startswith(BY_PLACE):
                warnings.warn(f"{self.spelling.name}: {note}", stacklevel=2)
        return report

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without caches that the next step recomputes."""
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore settings and state, also after loading."""
        self._forget()
        state = dict(state)
        defaults = {**(state.get("defaults") or self.defaults), CLASS: self.spelling.name}
        for group in state["param_groups"]:
            for key, value in defaults.items():
                group.setdefault(key, value)
            settings, held = GroupSettings(self.spelling, group), state["state"]
            numbers = numbers_on_host(settings)
            for p in group["params"]:
                if isinstance(entry := held.get(p), Loaded):
                    held[p] = entry.on(p, numbers)
            params = [p for p in group["params"] if held.get(p)]
            fitted_entries(settings, params, list(map(local, params)), held)
        for key, entry in state["state"].items():
            if isinstance(entry, Loaded):  # of something that is no parameter
                state["state"][key] = entry.entry
        super().__setstate__(state)

    @property
    def last_step(self) -> list[StepReport | None]:
        """What the last step did for each parameter group; see `Optimizer.last_step`."""
        return [part.capturing.report() for part in self._parts]

    def summary(self) -> Summary:
        """Return a table of the state, made or not, array by array; see `Optimizer.summary`.

        Examples
        --------
        >>> import torch
        >>> import arrayoptim as ao
        >>> model = torch.nn.Linear(3, 2)
        >>> ao.torch.Adam(model.named_parameters()).summary().bytes
        64
        """
        return joined(
            self.spelling.name,
            *(summarized(GroupSettings(self.spelling, group)) for group in self.param_groups),
        )

    # ---- one step

    def _captured(self) -> list[Any]:
        """Return the steps that CUDA graphs hold."""
        found = [
            c
            for part in getattr(self, "_parts", ())
            for c in (*part.capturing.kept, part.capturing.counted)
        ]
        return [counted for counted in found if counted is not None and counted.captured]

    def _patch_step_function(self) -> None:
        """Wrap the step method of the class once, as torch does; see `hooked`."""
        cls: Any = type(self)
        if not getattr(cls.step, "hooked", False):
            cls.step = hooked(cls.step)
        super()._patch_step_function()

    def _part(self, i: int) -> Part:
        group = self.param_groups[i]
        if i >= len(self._parts) or self._parts[i].group is not group:
            self._graphs += self._captured() if i < len(self._parts) else []
            reason = NOT_BEGUN if group["capturable"] else NOT_ASKED
            refuse_unready(self.spelling.name, list(map(local, group["params"][:1])), reason)
            self._parts[i:] = [part_class(self.spelling)(self.spelling, group)]
        return self._parts[i]

    def _advance(self) -> None:
        # Equivalent to torch.no_grad(), at a seventh of its cost.
        recording = torch.is_grad_enabled()
        torch._C._set_grad_enabled(bool(self.defaults["differentiable"]))
        try:
            parts = [self._part(i) for i in range(len(self.param_groups))]
            found = [part.check() for part in parts]
            self._take_turn(parts, 0, found)
            # A parameter that occurs twice is stepped twice; torch warns about it.
            for turn in range(1, max([part.turns for part in parts])):
                self._take_turn(parts, turn, found)
            if self._backward is not None:
                self._backward.end()
        finally:
            self._losses = []
            torch._C._set_grad_enabled(recording)

    def _take_turn(
        self, parts: Sequence[Part], turn: int, found: Sequence[list[Tensor | None]]
    ) -> None:
        same = self._contents.same(self.state)
        gathered = [
            (part, part.gathered(grads, self.state, same, turn))
            for part, grads in zip(parts, found, strict=True)
        ]
        ready = [(part, grads) for part, grads in gathered if grads]
        norm = self._norm(ready)
        if not all(part.held.params for part, _ in ready):  # the host counts from now on
            self._take_turn(parts, turn, found)
            return
        for part, grads in ready[1:]:
            part.prepare(grads)
        if self._losses and ready:
            for part, _ in ready:
                part.session.tell(sum(self._losses), len(self._losses), anew=True)
        steps = [part.act(grads, norm, self.state) for part, grads in ready]
        # All groups are one transaction: after an interrupt, all of them are stepped, or none.
        carry_out(steps, _stuck)
        if not same or any(step.changed for step in steps):
            self._contents = Contents(self.state)

    def _norm(self, ready: list[tuple[Part, list[Tensor | None]]]) -> Scalar | None:
        """Return the norm over all groups and processes, where a step needs it."""
        wanted = {part.settings.measuring for part, _ in ready}
        if len(wanted) > 1:
            raise ValueError(
                f"{type(self).__name__}: {', '.join(TOGETHER)} hold for a step as a whole; the "
                f"parameter groups have {', '.join(map(repr, sorted(wanted, key=repr)))}"
            )
        if {row[:-1] for row in wanted} <= {(None, "ignore", None, ())}:
            return None
        if any(part.capturing.counted is not None for part, _ in ready):
            return self._norm_on_device(ready)
        if all(part.held.plain and not part.sparse for part, _ in ready):
            if len(ready) == 1:
                return None  # which takes it itself
            stays = {row[1:-1] for row in wanted} == {("ignore", None, ())}
            if stays and all(part.capturing.on_gpu for part, _ in ready):
                with suppress(ValueError):  # on several GPUs
                    return self._together(ready)
        params: list[Tensor] = []
        every: list[Tensor | None] = []
        squares: dict[int, float] = {}
        for part, grads in ready:
            squares |= {len(every) + i: x for i, x in part.squares(grads).items()}
            params += part.held.params
            every += magnitudes(grads) if part.sparse else grads
        return norm_over_all(params, every, squares)

    def _norm_on_device(self, ready: list[tuple[Part, list[Tensor | None]]]) -> Scalar | None:
        """Return the norm over all groups, which stays on their device; None for one group."""
        if len(ready) == 1:
            return None  # which takes it itself
        if any(part.sparse for part, _ in ready):
            self._leave_to_host(ready, "clipnorm takes the norm of sparse gradients too")
            return None
        try:
            return self._together(ready)
        except ValueError as error:
            self._leave_to_host(ready, str(error))
            return None

    def _together(self, ready: list[tuple[Part, list[Tensor | None]]]) -> Pending:
        """Return the norm over all groups, which stays on the one GPU of their parameters."""
        leaves = [leaf for part, _ in ready for leaf in part.held.leaves]
        known, sizes = self._sizes
        if not same_objects(known, leaves):
            refuse_unready(self.spelling.name, leaves, NOT_BEGUN)
            sizes = sizes_of(leaves)
            self._sizes = leaves, sizes
        taken: Pending | None = sizes.taken([g for _, grads in ready for g in grads])
        assert taken is not None  # as norms for graphs never are
        return taken

    def _leave_to_host(self, ready: list[tuple[Part, list[Tensor | None]]], reason: str) -> None:
        for part, _ in ready:
            part.leave_to_host(reason)


def _stuck() -> None:
    """Do nothing: each group's own state records that it was interrupted."""
