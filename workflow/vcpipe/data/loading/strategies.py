"""Sampling strategies: an epoch of a reader's cells as an order, a function of (seed, epoch)."""

from collections.abc import Callable

from vcpipe.config.loading import Loading
from vcpipe.data.loading.groups import Groups, within_group
from vcpipe.data.loading.orders import Order, as_they_are
from vcpipe.data.loading.permutation import Permutation
from vcpipe.data.loading.reader import Reader
from vcpipe.data.loading.weighted import CellWeights, WeightedDraws, balanced
from vcpipe.data.order import generator_of


def streaming(reader: Reader, config: Loading, seed: int, epoch: int) -> Order:
    """As the cells lie on disk."""
    return _in_order(reader, config, seed, epoch, is_mixed=False)


def streaming_buffer(reader: Reader, config: Loading, seed: int, epoch: int) -> Order:
    """As the cells lie on disk, but shuffled within the buffer (WebDataset, Ray)."""
    return _in_order(reader, config, seed, epoch, is_mixed=True)


def block_shuffling(reader: Reader, config: Loading, seed: int, epoch: int) -> Order:
    """Blocks in random order, their cells shuffled within the buffer.

    Where the cells lie in random order, as in a store, this is a full shuffle.
    """
    unit = config.block_size or reader.block_size
    return _in_random_order(len(reader), unit, as_they_are, seed, epoch)


def random_sampling(reader: Reader, config: Loading, seed: int, epoch: int) -> Order:
    """Cells in random order, wherever they lie."""
    return _in_random_order(len(reader), 1, as_they_are, seed, epoch)


def block_weighted(reader: Reader, config: Loading, seed: int, epoch: int) -> Order:
    """Cells drawn by weight, with replacement; draws that lie near each other come together."""
    unit = config.block_size or reader.block_size
    return _weighted(reader, config, unit, config.min_count_baseline, seed, epoch)


def true_weighted(reader: Reader, config: Loading, seed: int, epoch: int) -> Order:
    """Cells drawn by weight, with replacement, in random order."""
    return _weighted(reader, config, 1, config.min_count_baseline, seed, epoch)


def class_balanced(reader: Reader, config: Loading, seed: int, epoch: int) -> Order:
    """Every class is drawn as often, however few cells it has."""
    return _weighted(reader, config, config.block_size or reader.block_size, 0, seed, epoch)


Strategy = Callable[[Reader, Loading, int, int], Order | Groups]

STRATEGIES: dict[str, Strategy] = {
    "streaming": streaming,
    "streaming_buffer": streaming_buffer,
    "block_shuffling": block_shuffling,
    "random_sampling": random_sampling,
    "block_weighted": block_weighted,
    "true_weighted": true_weighted,
    "class_balanced": class_balanced,
    "within_group": within_group,
}


def _in_order(reader, config, seed, epoch, is_mixed) -> Order:
    unit = config.block_size or reader.block_size
    end = len(reader) // unit
    return Order(len(reader), unit, as_they_are, end, as_they_are, is_mixed, seed, epoch)


def _in_random_order(num_draws, unit, positions, seed, epoch) -> Order:
    num_whole = num_draws // unit
    order = Permutation(num_whole, seed, epoch)
    short_place = int(generator_of(seed, epoch, 7).integers(num_whole + 1))
    # Single cells need no shuffling on top of their order, and keep it for any number of processes.
    is_mixed = unit > 1
    return Order(num_draws, unit, order.__getitem__, short_place, positions, is_mixed, seed, epoch)


def _weighted(reader, config, unit, min_count_baseline, seed, epoch) -> Order:
    # Labels of all cells are read once for all epochs.
    known = vars(reader).setdefault("known_weights", {})
    key = (*config.weight_by, min_count_baseline)
    if key not in known:
        labels = reader.label_codes(config.weight_by)
        weights = balanced(labels, len(reader), config.weight_by, min_count_baseline)
        known[key] = CellWeights(labels.codes, weights, len(reader))
    num_draws = config.num_samples or len(reader)
    drawn = WeightedDraws(known[key], num_draws, seed, epoch)
    return _in_random_order(num_draws, unit, drawn.positions, seed, epoch)
