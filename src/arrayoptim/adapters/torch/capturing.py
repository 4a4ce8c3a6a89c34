"""Steps of a parameter group that can be captured in a torch CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence

from ...arrays.trees import Structure
from ...engines import captures, on_gpu
from ...step.counted import Counted
from ...step.report import StepReport
from ...step.session import session_of
from ...step.state import State
from .counts import Numbers
from .device_counts import DeviceCounts
from .group_settings import GroupSettings
from .shards import Tensor

NOT_ASKED = (
    "it has capturable=False. Make it with capturable=True, and take a step before the capture"
)

NOT_BEGUN = (
    "each replay would make its state anew. Take a step before the capture, on a side stream "
    "like all warm-up work"
)


def refuse_unready(name: str, leaves: Sequence[Tensor], reason: str) -> None:
    """Raise a RuntimeError if a CUDA graph is being captured.

    Parameters
    ----------
    name : str
        The name of the optimizer.
    leaves : sequence of Tensor
        The parameters.
    reason : str
        Why the step cannot be captured.
    """
    if captures(leaves):
        raise RuntimeError(
            f"{name}: a CUDA graph is being captured, and this step cannot be put into it: {reason}"
        )


class Capturing:
    """Step counts of a parameter group: on the device if its steps are to be capturable.

    Parameters
    ----------
    settings : GroupSettings
        The group's settings.
    never : str or None
        Why no group of this kind can be captured, or None.

    Attributes
    ----------
    on_gpu : bool
        Whether the parameters are on a GPU.
    counted : Counted or None
        The steps that kernels count; None if the host counts.
    kept : list of Counted
        Counts no longer in use, kept alive as captured graphs refer to them.
    """

    def __init__(self, settings: GroupSettings, never: str | None) -> None:
        self._settings, self._unserved, self._reason = settings, never, NOT_BEGUN
        self._counts: DeviceCounts | None = None
        self.on_gpu = False
        self.counted: Counted | None = None
        self.kept: list[Counted] = []

    def leave_to_host(self, reason: str) -> None:
        """Compute coefficients on the host from now on; steps cannot be captured then."""
        self._unserved = reason

    def stands_aside(self, leaves: Sequence[Tensor]) -> bool:
        """Whether to skip the step: a CUDA graph is being captured and the group has no gradient.

        Raises
        ------
        RuntimeError
            If the group has a gradient, and its step cannot be captured.
        """
        if self.counted is not None or not captures(leaves[:1]):
            return False
        if any(p.grad is not None for p in self._settings.group["params"]):
            reason = self._reason if self._settings.capturable else NOT_ASKED
            refuse_unready(self._settings.name, leaves[:1], reason)
        return True

    def look(self, leaves: Sequence[Tensor]) -> None:
        """Record the device of parameters before their state is made; raise during a capture."""
        self.on_gpu = bool(leaves) and on_gpu(leaves[0])
        if self.on_gpu:
            reason = NOT_BEGUN if self._settings.capturable else NOT_ASKED
            refuse_unready(self._settings.name, leaves, reason)

    def begun(
        self,
        state: State,
        numbers: Sequence[Numbers],
        leaves: Sequence[Tensor],
        structure: Structure,
    ) -> DeviceCounts | None:
        """Return counts that kernels advance; if the host counts, record why and return None."""
        if self.counted is not None and self.counted.captured:
            self.kept.append(self.counted)
        self.counted = self._counts = None
        settings, session = self._settings, session_of(self._settings.core)
        settings.read_all()
        if not (settings.capturable and self.on_gpu):
            return None
        reason = self._unserved
        if session.spread is not None:
            reason = "parameters are sharded over processes"
        if settings.group["differentiable"]:
            reason = "differentiable=True records the step"
        if reason is None:
            counts = DeviceCounts(state, numbers, settings.words, leaves[0].device)
            try:
                settings.leave_live(leaves[0])
                self.counted = Counted(session, leaves, structure, counts.held)
                self._counts = counts
            except ValueError as error:
                settings.read_all()
                reason = str(error)
        self._reason = reason or self._reason
        return self._counts

    def report(self) -> StepReport | None:
        """Return what the last step did; syncs with the device if kernels count."""
        if self.counted is not None and self._counts is not None and self.counted.stepped:
            self._counts.follow()
            session = session_of(self._settings.core)
            live = {name: x.item() for name, x in self._settings.live.items()}
            session.last = self.counted.report(session.iterations, live)
        return self._settings.core.last_step
