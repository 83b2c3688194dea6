"""Randomness named by (seed, epoch, cell): the same whatever file, block or process a cell is in.

A cell's key is a hash of its dataset and its name. Compiled loops make their own streams of random
numbers from it (SplitMix64), numpy code a generator.
"""

import numpy as np
import xxhash

from vcpipe.data.sparse_rows import compiled

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def cell_keys(dataset: str, names) -> np.ndarray:
    """uint64 keys of cells, of their dataset's name and their own."""
    of = xxhash.xxh3_64_intdigest
    keys = (of(f"{dataset}\0{name}".encode()) for name in names)
    return np.fromiter(keys, dtype=np.uint64, count=len(names))


@compiled
def mixed(value: np.uint64) -> np.uint64:
    """Spread every bit of a number over all bits (the last step of SplitMix64)."""
    value = np.uint64(value)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@compiled
def stream(seed: int, epoch: int, purpose: int, key: np.uint64) -> np.uint64:
    """Where a cell's stream of random numbers begins; `purpose` tells draws of one cell apart."""
    state = mixed(np.uint64(seed) + GOLDEN)
    state = mixed(state + np.uint64(epoch) + GOLDEN)
    state = mixed(state + np.uint64(purpose) + GOLDEN)
    return mixed(state + np.uint64(key) + GOLDEN)


@compiled
def number(state: np.uint64, place: int) -> np.uint64:
    """The random number at a place of a stream, from 0 to 2**64 - 1."""
    return mixed(np.uint64(state) + np.uint64(place + 1) * GOLDEN)


@compiled
def fraction(state: np.uint64, place: int) -> float:
    """The random number at a place of a stream, from 0 to 1 (excluded)."""
    return np.float64(number(state, place) >> np.uint64(11)) * 2.0**-53


@compiled
def below(state: np.uint64, place: int, end: int) -> int:
    """The random number at a place of a stream, from 0 to end - 1."""
    return int(fraction(state, place) * end)


def keyed_generator(seed: int, epoch: int, purpose: int, key: int) -> np.random.Generator:
    """The same naming for numpy code."""
    return np.random.default_rng(np.random.SeedSequence((seed, epoch, purpose, int(key))))
