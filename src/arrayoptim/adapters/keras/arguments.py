"""Arguments of the Keras classes: this library's, or Keras 3's under ``preset="keras3"``.

With the preset, ``clipnorm`` bounds the norm of each gradient and ``global_clipnorm`` that of
all together; without it, ``clipnorm`` bounds that of all, as in Keras 2.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from ...config.refused import both
from ...config.registry import names
from ...config.validation import flag
from ...optimizer import Optimizer

Words = dict[str, Any]

_KERAS_3 = {"clipnorm": "clipnorm_per_tensor", "global_clipnorm": "clipnorm"}
_BACK = {"clipnorm": "global_clipnorm"}
_SPELT = {
    "ScheduleFreeAdamW": {"beta_1": "momentum"},
    "Muon": {"muon_a": "ns_a", "muon_b": "ns_b", "muon_c": "ns_c"},
}
_THEIRS = {"LAMB": "Lamb"}
NATIVE = {
    name: getattr(keras.optimizers, _THEIRS.get(name, name))
    for name in names()
    if hasattr(keras.optimizers, _THEIRS.get(name, name))
}
"""The classes of Keras that this library has, by our names."""


class RefusedError(TypeError, ValueError):
    """An argument of the wrong type: a TypeError in this library, but a ValueError in Keras."""


def in_our_words(cls: type[Optimizer], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Words:
    """Return the arguments of a Keras class translated to those of this library's class, by name.

    Parameters
    ----------
    cls : type
        The class of this library.
    args : sequence
        Positional arguments in the order of that class, or of Keras 3's with ``preset="keras3"``.
    kwargs : mapping
        Keyword arguments.

    Raises
    ------
    TypeError
        If there are too many, or one is passed twice.
    ValueError
        If two clipping arguments are passed that exclude each other.
    """
    like_keras = kwargs.get("preset") == "keras3"
    words = dict(zip(_positions(cls, like_keras, len(args)), args, strict=False))
    for name, value in kwargs.items():
        name = "lr" if name == "learning_rate" else name
        if name in words:
            raise TypeError(f"{cls.__name__} got {name!r} twice: {words[name]!r}, {value!r}")
        words[name] = value
    for name, ours in _SPELT.get(cls.__name__, {}).items():
        if name in words:
            words[ours] = words.pop(name)
    if "rms_rate" in words and words["rms_rate"] is None:  # Keras's way to say: no scale
        del words["rms_rate"]
        words["scaling"] = "none"
    if cls.__name__ == "Muon" and like_keras:
        words = _as_muon(words)
    for name in words.keys() & cls.hyperparameters.keys():
        if isinstance(cls.hyperparameters[name].default, bool):
            words[name] = flag(words[name])
    if "outputs" in cls.hyperparameters:
        words.setdefault("outputs", "last")  # the kernels of Keras are (inputs, outputs)
    return _bounds(cls, words, like_keras)


def _as_muon(words: Words) -> Words:
    """Return Muon's arguments, with Keras's None translated to no layers and no decay."""
    nothing = {"exclude_layers": (), "adam_weight_decay": 0.0}
    return words | {k: v for k, v in nothing.items() if k in words and words[k] is None}


def made(cls: type[Optimizer], words: Words) -> Optimizer:
    """Make the optimizer inside, which takes the numbers that Keras's class takes.

    Parameters
    ----------
    cls : type
        The class of this library.
    words : dict
        From `in_our_words`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or Keras refuses it.
    """
    if cls.__name__ not in NATIVE:
        return cls(**words)
    theirs = _in_keras(cls)
    refused = _refusal(cls, theirs, words) if words.get("preset") == "keras3" else None
    try:
        cls(**words)
    except (TypeError, ValueError) as ours:
        refused = refused or _refusal(cls, theirs, words)
        if refused is not None:
            # Keras's tests compare whole messages; the traceback shows ours above it.
            raise both(ours, refused) from ours
    if refused is not None:
        raise RefusedError(str(refused))
    return cls.taking(theirs.values(), **words)


def _in_keras(cls: type[Optimizer]) -> dict[str, str]:
    """Return the hyperparameters that Keras's class has too: its words, ours."""
    spelt = {"learning_rate": "lr", **_KERAS_3, **_SPELT.get(cls.__name__, {})}
    theirs = list(inspect.signature(NATIVE[cls.__name__].__init__).parameters)[1:]
    known = {word: spelt.get(word, word) for word in theirs}
    return {word: ours for word, ours in known.items() if ours in cls.hyperparameters}


def _refusal(
    cls: type[Optimizer], theirs: Mapping[str, str], words: Mapping[str, Any]
) -> Exception | None:
    """Return what Keras's class says of the arguments that it has too; None where it takes them.

    Not of a bound on gradients: which may be combined is said elsewhere.
    """
    asked = {word: words[ours] for word, ours in theirs.items() if ours in words}
    for word in _KERAS_3.keys() | {"clipvalue"}:
        asked.pop(word, None)
    for word, value in asked.items():
        if type(value) is int and not cls.hyperparameters[theirs[word]].integer:
            asked[word] = float(value)  # as Keras 2 took them
    if callable(asked.get("learning_rate")) or isinstance(asked.get("learning_rate"), Mapping):
        del asked["learning_rate"]
    try:
        NATIVE[cls.__name__](**{**asked, "name": "asked"})
    except Exception as error:  # of whichever kind
        return error
    return None


def in_words_of_keras(config: Mapping[str, Any]) -> Words:
    """Return a configuration of this library as arguments of the Keras class."""
    like_keras = config.get("preset") == "keras3"
    return {_BACK.get(name, name) if like_keras else name: v for name, v in config.items()}


def ours_of(word: str, preset: str | None) -> str:
    """Return the hyperparameter of this library that corresponds to an argument."""
    return _KERAS_3.get(word, word) if preset == "keras3" else word


def _positions(cls: type[Optimizer], like_keras: bool, count: int) -> list[str]:
    theirs = NATIVE.get(cls.__name__)
    if like_keras and theirs is not None:
        names = list(inspect.signature(theirs.__init__).parameters)[1:]
    else:
        names = [name for name, h in cls.hyperparameters.items() if not h.keyword]
    if count > len(names):
        raise TypeError(
            f"{cls.__name__} takes at most {len(names)} positional arguments "
            f"({', '.join(names)}), got {count}"
        )
    return ["lr" if name == "learning_rate" else name for name in names[:count]]


def _bounds(cls: type[Optimizer], words: Words, like_keras: bool) -> Words:
    if like_keras:
        given = [
            n for n in ("clipnorm", "clipvalue", "global_clipnorm") if words.get(n) is not None
        ]
        if len(given) > 1:
            raise ValueError(
                f"{cls.__name__}: found {' and '.join(given)}. Only one of `clipnorm`, `clipvalue` "
                "and `global_clipnorm` can be given, as in Keras 3; without preset='keras3' they "
                "may be combined"
            )
        names = {**_KERAS_3, "clipnorm_per_tensor": "clipnorm_per_tensor"}
        kept = {name: v for name, v in words.items() if name not in names}
        moved = [(ours, words[name]) for name, ours in names.items() if name in words]
        return {**kept, **{ours: v for ours, v in moved if v is not None}}
    bound = words.pop("global_clipnorm", None)
    if bound is None:
        return words
    if words.get("clipnorm") is not None:
        raise ValueError(
            f"found clipnorm={words['clipnorm']!r} and global_clipnorm={bound!r}, which are the "
            "same option here; wanted one of them"
        )
    return {**words, "clipnorm": bound}
