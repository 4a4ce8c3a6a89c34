"""Selection of the parameters of a model that Muon steps; Adam steps the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from glob import escape
from typing import Any

from ._typing import Tree
from .arrays.trees import flatten, plain
from .config.groups import Group, group

__all__ = ["muon_groups"]

_EMBEDDING = re.compile(r"embed|^(wte|wpe|emb|(tok|token|pos|position)_?emb)$")
_HEAD = re.compile(r"^(.*_)?(head|classifier|logits|unembed(ding)?|embed_out|output_layer)$")
_TYPE = re.compile(r"^Embedding|Norm(\dd)?$")
_NORM = re.compile(r"norm(_?\d+)?$|^(ln|bn)(_.*|\d+)?$|_ln(_?\d+)?$")


def muon_groups(
    model: Any,
    optimizer: Any = None,
    *,
    adam: Sequence[str] = (),
    muon: Sequence[str] = (),
    **settings: Any,
) -> list[Any]:
    """Return groups that give a model's hidden weight matrices to Muon, and the rest to Adam.

    The rest are embeddings, the last layer, which computes the outputs, norms, biases, and
    everything with fewer than two axes.

    Parameters
    ----------
    model : torch.nn.Module or tree of arrays
        A torch model, in which module types and names decide; or parameters of any array library,
        such as those of Flax, in which paths and numbers of axes decide.
    optimizer : Optimizer or str, optional
        For a tree: the optimizer of the rest; ``AdamW()`` by default.
    adam, muon : sequence of str
        Glob patterns of names that take precedence over everything else: ``["*.router.*"]``.
    **settings
        For a torch model: settings of the group with the rest, such as ``lr=3e-4``,
        ``adam_beta_2=0.95`` and ``weight_decay=0.0``.

    Returns
    -------
    list
        For a torch model, two parameter groups with names, for ``ao.torch.Muon``; for a tree, the
        `groups` of an ``ao.Muon``. Empty groups are left out.

    Raises
    ------
    TypeError
        If an optimizer is passed with a torch model, or settings with a tree.
    ValueError
        If a pattern matches no parameter, or there are no parameters.

    Notes
    -----
    A name denotes an embedding if a part of it contains the word ``embed`` or is ``wte``, ``wpe``
    or ``tok_emb``; the last layer if the part before the weight is ``head``, ``lm_head``,
    ``classifier``, ``logits``, ``unembed`` or similar; a norm if that part ends in ``norm`` or
    starts with ``ln``. In a torch model without such names, the last ``Linear`` that is a direct
    child of the model is the last layer; a weight shared with an embedding counts as an embedding.
    The weight of a ``MultiheadAttention`` that contains queries, keys and values is split.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> params = {
    ...     "embed": np.ones((9, 4)),
    ...     "block": {"kernel": np.ones((4, 4)), "bias": np.ones(4)},
    ...     "head": {"kernel": np.ones((4, 9))},
    ... }
    >>> groups = ao.muon_groups(params, ao.AdamW(lr=1e-3))
    >>> groups[0].patterns
    ('block/bias', 'embed', 'head/kernel')
    >>> optimizer = ao.Muon(lr=0.02, outputs="last", groups=groups)
    """
    if callable(getattr(model, "named_modules", None)):
        if optimizer is not None:
            raise TypeError(
                f"muon_groups: found optimizer={optimizer!r}; ao.torch.Muon steps the rest by "
                "Adam, whose settings are given by keyword: lr=3e-4, weight_decay=0.0"
            )
        return _of_modules(model, adam, muon, settings)
    if settings:
        raise TypeError(
            f"muon_groups: found {', '.join(settings)}; parameters that are no model of torch have "
            "an optimizer for the rest: muon_groups(params, ao.AdamW(lr=3e-4))"
        )
    return _of_tree(model, "adamw" if optimizer is None else optimizer, adam, muon)


def _of_tree(params: Tree, optimizer: Any, adam: Sequence[str], muon: Sequence[str]) -> list[Group]:
    leaves, structure = flatten(params)
    shapes = {
        plain(path): (path, len(x.shape))
        for path, x in zip(structure.paths, leaves, strict=True)
        if x is not None
    }
    _require_some(shapes)
    names = {name: name.split("/") for name in shapes}
    rest = _chosen(
        {
            name: axes < 2 or _tells(names[name][:-1], names[name][-1:])
            for name, (_, axes) in shapes.items()
        },
        adam,
        muon,
    )
    patterns = [escape(shapes[name][0]) for name, out in rest.items() if out]
    return [group(*patterns, optimizer=optimizer)] if patterns else []


def _of_modules(
    model: Any, adam: Sequence[str], muon: Sequence[str], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    known = dict(model.named_parameters())
    _require_some(known)
    by_type: set[int] = set()
    fused: list[str] = []
    last, named_head = None, False
    for name, module in model.named_modules():
        kinds = [kind.__name__ for kind in type(module).__mro__]
        own = dict(module.named_parameters(recurse=False))
        if any(map(_TYPE.search, kinds)):
            by_type |= {id(p) for p in own.values()}
        elif "MultiheadAttention" in kinds and own.get("in_proj_weight") is not None:
            fused.append(f"{name}.in_proj_weight" if name else "in_proj_weight")
        elif "Linear" in kinds:
            named_head = named_head or bool(_HEAD.search(name.lower().rpartition(".")[2]))
            last = module if name and "." not in name else last
    matrices = [p for p in known.values() if p.ndim > 1 and id(p) not in by_type]
    if last is not None and not named_head and len(matrices) > 1:
        by_type |= {id(p) for p in last.parameters()}
    parts = {name: name.split(".") for name in known}
    rest = _chosen(
        {
            name: p.ndim < 2 or id(p) in by_type or _tells(parts[name][:-1], parts[name][-1:])
            for name, p in known.items()
        },
        adam,
        muon,
    )
    pairs = {out: [(n, p) for n, p in known.items() if rest[n] is out] for out in (False, True)}
    cut = {"split": tuple((name, 3) for name in fused if not rest[name])}
    inside = {"params": pairs[False], **(cut if cut["split"] else {})}
    others = {"params": pairs[True], **settings, "exclude_layers": ("",)}
    return [found for found in (inside, others) if found["params"]]


def _require_some(found: Mapping[str, Any]) -> None:
    if not found:
        raise ValueError("muon_groups: found no parameters, wanted a model or a tree of arrays")


def _tells(modules: Sequence[str], own: Sequence[str]) -> bool:
    """Whether a name denotes an embedding, the last layer or a norm."""
    parts = [part.lower() for part in (*modules, *own)]
    near = parts[-2:]
    return (
        any(_EMBEDDING.search(part) for part in parts)
        or any(_HEAD.search(part) for part in near)
        or any(_NORM.search(part) for part in near)
    )


def _chosen(rest: Mapping[str, bool], adam: Sequence[str], muon: Sequence[str]) -> dict[str, bool]:
    """Return which parameters belong to the rest after the patterns are applied."""
    found = dict(rest)
    for patterns, value in ((muon, False), (adam, True)):
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            names = [name for name in found if fnmatchcase(name, pattern)]
            if not names:
                raise ValueError(
                    f"muon_groups: the pattern {pattern!r} matches none of {', '.join(found)}"
                )
            found |= dict.fromkeys(names, value)
    return found
