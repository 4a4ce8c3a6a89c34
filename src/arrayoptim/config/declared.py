"""Classes whose constructor, checks and configuration come from declared hyperparameters."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from . import other_libraries
from .fields import choice, flag, label, number, numbers, part, parts
from .hyper import REQUIRED, Hyper, hyper
from .per_model import Each
from .registry import ALIASES, nearest, refuse_nested

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        """Stand in for typing's decorator, which only type checkers evaluate."""
        return lambda cls: cls


T = TypeVar("T")


def _emphasized(value: Any, default: Any) -> str:
    import html

    shown = html.escape(repr(value))
    return shown if value is default or value == default else f"<b>{shown}</b>"


def _declared_in(cls: type) -> dict[str, Hyper]:
    """Return the declarations in the body of a class."""
    return {k: v for k, v in vars(cls).items() if isinstance(v, Hyper)}


class _Signature:
    """The signature of a class, made on access: making all of them would take 10% of import time.

    It lists the declared hyperparameters, positional ones first.
    """

    def __get__(self, instance: Any, owner: type[Declared]) -> inspect.Signature:
        """Return the signature."""
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return inspect.Signature(
            [
                inspect.Parameter(name, kinds[declared.keyword], default=declared.default)
                for name, declared in owner.hyperparameters.items()
            ]
        )


@dataclass_transform(field_specifiers=(hyper, number, numbers, flag, choice, label, part, parts))
class Declared:
    """A base whose subclasses declare hyperparameters with `hyper` in their bodies.

    The constructor takes them in the order of declaration, those of a parent class first, and
    those marked ``kw_only`` by keyword only.
    """

    hyperparameters: ClassVar[dict[str, Hyper]] = {}

    if not TYPE_CHECKING:

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._set(self._bind(args, kwargs))

    __signature__ = _Signature()
    _unbounded: frozenset[str] = frozenset()
    _declarations: ClassVar[dict[str, Hyper]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Collect the declarations."""
        super().__init_subclass__(**kwargs)
        found: dict[str, Hyper] = {}
        cls._declarations = _declared_in(cls)
        for base in reversed(cls.__mro__):
            known = vars(base).get("_declarations")
            found |= _declared_in(base) if known is None else known
        ordered = sorted(found.items(), key=lambda item: item[1].keyword)
        cls.hyperparameters = dict(ordered)

    def _set(self, values: dict[str, Any]) -> None:
        # Annotated here, not in the class: type checkers would take it for a hyperparameter there.
        preset = values.get("preset")
        # Intervals depend on the preset.
        self._hyper: dict[str, Any] = {"preset": preset} if isinstance(preset, str) else {}
        for name, declared in self.hyperparameters.items():
            setattr(self, name, values.get(name, declared.default_under(preset)))

    @classmethod
    def taking(cls, unbounded: Iterable[str], **settings: Any) -> Self:
        """Make an instance some of whose numbers are not held to their intervals.

        For a class in place of another library's, which takes them and computes what follows.

        Parameters
        ----------
        unbounded : iterable of str
            Hyperparameters that may be any number, and True and False as 1 and 0.
        **settings
            The arguments of the class.
        """
        made = cls.__new__(cls)
        made._unbounded = frozenset(unbounded)
        made.__init__(**settings)  # type: ignore[misc]
        return made

    def again(self, **changes: Any) -> Self:
        """Return another instance, without state, with the same hyperparameters but for some."""
        config = self.get_config() | changes
        if self._unbounded:
            return self.taking(self._unbounded, **config)
        return self.from_config(config)

    def _fitting(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values checked against each other; some may still be missing."""
        for name, value in values.items():
            if isinstance(value, Each):
                fault = f"must be {self.hyperparameters[name].wanted}, got {value!r}"
                raise TypeError(f"{type(self).__name__}.{name} {fault}")
        return values

    @classmethod
    def _bind(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        for value in args if kwargs.get("models") is None else ():
            other_libraries.refuse_parameters(value, cls)
        positional = [name for name, h in cls.hyperparameters.items() if not h.keyword]
        if len(args) > len(positional):
            raise TypeError(
                f"{cls.__name__} takes at most {len(positional)} positional arguments "
                f"({', '.join(positional)}), got {len(args)}"
            )
        values = dict(zip(positional, args, strict=False))
        for key, value in kwargs.items():
            name = ALIASES.get(key, key)
            if name not in cls.hyperparameters:
                known = [*cls.hyperparameters, *ALIASES]
                told = (
                    other_libraries.argument(key, cls.__name__)
                    or nearest(key, known)
                    or f"; it takes {', '.join(cls.hyperparameters)}"
                )
                raise TypeError(f"{cls.__name__} has no argument {key!r}{told}")
            if name in values:
                raise TypeError(f"{cls.__name__} got {name!r} twice: {values[name]!r}, {value!r}")
            values[name] = value
        missing = [n for n, h in cls.hyperparameters.items() if h.default is REQUIRED]
        missing = [n for n in missing if n not in values]
        if missing:
            raise TypeError(f"{cls.__name__} needs {', '.join(missing)}")
        return values

    def get_config(self) -> dict[str, Any]:
        """Return the hyperparameters by Keras's names.

        Returns
        -------
        dict
            Every positional argument that has a value, and keyword arguments that differ from their
            default. A registered schedule is represented by its class name and configuration, any
            other function by itself.
        """
        preset = self._hyper.get("preset")
        return {
            name: h.to_config(self._hyper[name])
            for name, h in self.hyperparameters.items()
            if h.required_in_config or self._hyper[name] != h.default_under(preset)
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return an instance made from a configuration, which is not modified.

        Parameters
        ----------
        config : dict
            As from `get_config`, or the configuration of a Keras 2 optimizer.

        Raises
        ------
        TypeError
            If it is not a dict, or has a key that this class does not know.
        ValueError
            If a value lies outside its interval.
        """
        if not isinstance(config, dict):
            raise TypeError(f"{cls.__name__}.from_config: found {config!r}, wanted a dict")
        refuse_nested(config, f"{cls.__name__}.from_config")
        return cls(**config)

    def _repr_html_(self) -> str:
        """Return the settings as a table for notebooks; values other than the default are bold."""
        preset = self._hyper.get("preset")
        rows = "".join(
            f"<tr><td style='text-align:left'>{name}</td><td style='text-align:left'>"
            f"{_emphasized(self._hyper[name], h.default_under(preset))}</td></tr>"
            for name in self.get_config()
            for h in [self.hyperparameters[name]]
        )
        return f"<div><b>{type(self).__name__}</b><table>{rows}</table></div>"

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        inner = ", ".join(f"{name}={self._hyper[name]!r}" for name in self.get_config())
        return f"{type(self).__name__}({inner})"
