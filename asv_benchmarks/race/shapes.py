"""The shapes of the parameters, and arrays of these shapes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

Shapes = list[tuple[int, ...]]


def mlp(*widths: int) -> Shapes:
    """Return the weights and biases of a stack of dense layers."""
    return [shape for i, o in pairwise(widths) for shape in ((i, o), (o,))]


def gpt2(width: int = 768, layers: int = 12, words: int = 50257, places: int = 1024) -> Shapes:
    """Return the parameters of GPT-2; the output layer is the word embedding."""
    norm: Shapes = [(width,), (width,)]
    attention: Shapes = [(width, 3 * width), (3 * width,), (width, width), (width,)]
    block = norm + attention + norm + mlp(width, 4 * width, width)
    return [(words, width), (places, width), *(block * layers), *norm]


def block_of_matrices(width: int) -> Shapes:
    """Return the matrices of one layer of GPT-2."""
    return [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]


SHAPES: dict[str, tuple[str, Shapes]] = {
    "S1": ("1,000 of (16, 16)", [(16, 16)] * 1000),
    "S2": ("MLP 784-512-256-10", mlp(784, 512, 256, 10)),
    "S3": ("10 of 1,000,000", [(1_000_000,)] * 10),
    "S4": ("3,000 of 3,500", [(3_500,)] * 3000),
    "S5": ("GPT-2 small", gpt2()),
    "S6": ("the matrices of 2 layers of GPT-2, half as wide", block_of_matrices(384) * 2),
    "S7": ("a table of 1,000,000 x 64, of which a gradient has 4,096 rows", [(1_000_000, 64)]),
}
"""By short name: what it is, and the list."""


ROWS = 4096
"""How many rows a sparse gradient has, some of them several times."""


def sparse(name: str, count: int = 8) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Make sparse gradients of the table in a list of shapes: the numbers of rows, and rows."""
    ((length, width),) = SHAPES[name][1]
    random = np.random.default_rng(2)
    for _ in range(count):
        rows = (0.01 * random.standard_normal((ROWS, width))).astype(np.float32)
        yield random.integers(0, length, ROWS), rows


def elements(name: str) -> int:
    """Return the number of parameters in all arrays together."""
    return sum(map(prod, SHAPES[name][1]))


def arrays(name: str, seed: int, scale: float) -> Iterator[NDArray[np.float32]]:
    """Make the arrays one by one, of normal numbers.

    The numbers repeat after about a million: drawing all of them takes longer than the race.
    """
    random = np.random.default_rng(seed)
    tile = (scale * random.standard_normal(1_000_003)).astype(np.float32)
    twice, start = np.concatenate([tile, tile]), 0
    for shape in SHAPES[name][1]:
        size = prod(shape)
        if size <= len(tile):
            yield twice[start : start + size].reshape(shape).copy()
        else:
            yield np.resize(tile, shape)
        start = (start + size) % len(tile)
