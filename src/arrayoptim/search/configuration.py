"""The settings of L-BFGS, as a configuration and as a repr."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ..config.spoken import part_of
from .state_layout import Settings

if TYPE_CHECKING:
    from typing_extensions import Self


@part_of("arrayoptim.search.lbfgs", "LBFGS")
class Described:
    """The part of `LBFGS` that describes its settings."""

    _memory: int
    _settings: Settings
    _box: tuple[Any, Any]
    _batched: bool

    def _described(self) -> tuple[str, dict[str, Any] | None]:
        numbers = all(bound is None or isinstance(bound, int | float) for bound in self._box)
        return "LBFGS", self._arguments() if numbers else None

    def _arguments(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "memory": self._memory,
            "gtol": settings.gtol,
            "ftol": settings.ftol,
            "lower": self._box[0],
            "upper": self._box[1],
            "batched": self._batched,
            "decrease": settings.bounds.decrease,
            "curvature": settings.bounds.curvature,
            "trials": settings.bounds.trials,
        }

    def __repr__(self) -> str:
        usual = self._defaults()
        shown = [f"{k}={v!r}" for k, v in self._arguments().items() if not _same(v, usual[k])]
        return f"LBFGS({', '.join(shown)})"

    def get_config(self) -> dict[str, Any]:
        """Return the settings of the search and its bounds, for `from_config`."""
        return self._arguments()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make an optimizer from a configuration of `get_config` or of a file.

        Parameters
        ----------
        config : dict
            The configuration, which is not changed.

        Raises
        ------
        ValueError
            If it has unknown names, or a number is outside its interval.
        """
        arguments = dict(config.get("arguments", config))
        known = cls._defaults()
        strange = sorted(arguments.keys() - known.keys() - {"optimizer"})
        if strange:
            raise ValueError(f"LBFGS.from_config: found {strange}, wanted some of {sorted(known)}")
        return cls._made("LBFGS", {k: x for k, x in arguments.items() if k != "optimizer"})

    @classmethod
    def _made(cls, name: str, arguments: dict[str, Any]) -> Self:
        return cls(**arguments)

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {name: row.default for name, row in inspect.signature(cls).parameters.items()}


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other
