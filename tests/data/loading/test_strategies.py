"""Our strategies beside those of the real scDataset."""

import numpy as np
import pytest
from scdataset import scDataset
from scdataset.strategy import (
    BlockShuffling,
    BlockWeightedSampling,
    ClassBalancedSampling,
    Streaming,
)
from scipy import stats

from tests.data.loading.cells_in_a_row import CellsInARow, epoch_of, seen_in, steps_of
from vcpipe.config.loading import Loading

N, B, BATCH, FETCH = 203, 8, 4, 6


def theirs(strategy, seed: int = 0) -> list[list[int]]:
    """The batches of an epoch."""
    cells = scDataset(np.arange(N), strategy, BATCH, FETCH, rank=0, world_size=1, seed=seed)
    return [batch.tolist() for batch in cells]


def ours(reader=None, epoch: int = 0, **config) -> list[list[int]]:
    its = Loading(fetch_factor=FETCH, **config)
    steps = steps_of(reader or CellsInARow(N), its, 1, BATCH, epoch)
    return [seen_in([step]) for step in steps]


def fetches(batches: list[list[int]]) -> list[list[int]]:
    cells = [cell for batch in batches for cell in batch]
    return [sorted(cells[at : at + BATCH * FETCH]) for at in range(0, N, BATCH * FETCH)]


def blocks(cells: list[int]) -> list[tuple[int, ...]]:
    """Runs of cells that ascend one by one, cut at whole blocks."""
    cuts = [i for i in range(1, len(cells)) if cells[i] != cells[i - 1] + 1 or cells[i] % B == 0]
    return [tuple(its.tolist()) for its in np.split(np.array(cells), cuts)]


def test_streaming_is_theirs():
    """Batches differ by a cell at most here, where theirs are as long as asked but for the last."""
    assert [cell for batch in ours(strategy="streaming") for cell in batch] == list(range(N))
    assert theirs(Streaming()) == [list(range(at, min(at + BATCH, N))) for at in range(0, N, BATCH)]


def test_streaming_with_a_buffer_shuffles_the_same_cells_together():
    our, its = fetches(ours(strategy="streaming_buffer")), fetches(theirs(Streaming(shuffle=True)))
    # Our last buffer takes what theirs would read as one more.
    assert our[:-1] == its[:-1]
    assert ours(strategy="streaming_buffer")[0] != sorted(ours(strategy="streaming_buffer")[0])


def test_blocks_are_whole_and_aligned_as_theirs():
    our = epoch_of(CellsInARow(N), Loading(block_size=B)).tolist()
    its = BlockShuffling(B).get_indices(np.arange(N), seed=1).tolist()
    assert sorted(our) == sorted(its) == list(range(N))
    assert sorted(blocks(our)) == sorted(blocks(its))
    assert blocks(our) != sorted(blocks(our))


def test_a_buffer_holds_whole_blocks():
    for cells in fetches(ours(strategy="block_shuffling", block_size=B))[:-1]:
        sizes = np.bincount(np.array(cells) // B)
        cut = [size for size in sizes.tolist() if size not in (0, B, N % B)]
        # Beside the short block one other is cut where the buffer ends.
        assert len(cut) <= 2


def test_blocks_come_in_every_order_as_theirs_do():
    """Where the short block stands, and which block is first, over many epochs."""
    ours_first, theirs_first, our_short, their_short = [], [], [], []
    for epoch in range(2000):
        our = blocks(epoch_of(CellsInARow(43), Loading(block_size=B), epoch=epoch).tolist())
        its = blocks(BlockShuffling(B).get_indices(np.arange(43), seed=epoch).tolist())
        for found, first, short in ((our, ours_first, our_short), (its, theirs_first, their_short)):
            first.append(found[0][0] // B)
            short.append(next(i for i, block in enumerate(found) if len(block) < B))
    for our, its in ((ours_first, theirs_first), (our_short, their_short)):
        table = [np.bincount(found, minlength=6) for found in (our, its)]
        assert stats.chi2_contingency(table).pvalue > 1e-3
    assert stats.chisquare(np.bincount(our_short, minlength=6)).pvalue > 1e-3


def test_random_sampling_sees_every_cell_once_wherever_it_lies():
    our = [cell for batch in ours(strategy="random_sampling") for cell in batch]
    its = [cell for batch in theirs(BlockShuffling(1)) for cell in batch]
    assert sorted(our) == sorted(its) == list(range(N))
    # Neighbours on disk are no neighbours in the order.
    for found in (our, its):
        assert np.mean(np.abs(np.diff(found)) == 1) < 0.05


LABELS = np.repeat(["a", "b", "c"], [150, 45, 8])
FORMULA = N / (3 * (np.array([150, 45, 8]) + 20))


def weighted(epoch: int, block_size: int) -> np.ndarray:
    config = Loading(
        strategy="block_weighted", block_size=block_size, weight_by=["l"], min_count_baseline=20
    )
    return epoch_of(CellsInARow(N, l=LABELS), config, epoch=epoch)


def test_weighted_draws_are_as_frequent_as_theirs():
    weights = np.repeat(FORMULA, [150, 45, 8])
    strategy = BlockWeightedSampling(4, weights=weights)
    our = np.zeros(N, dtype=int)
    its = np.zeros(N, dtype=int)
    for epoch in range(400):
        our += np.bincount(weighted(epoch, 4), minlength=N)
        its += np.bincount(strategy.get_indices(np.arange(N), seed=epoch), minlength=N)
    expected = weights / weights.sum() * our.sum()
    for found in (our, its):
        assert stats.chisquare(found, expected).pvalue > 1e-3


def test_the_number_of_draws_of_a_label_varies_as_theirs_does():
    """Stretches that get their draws first must not make epochs more alike, or less."""
    weights = np.repeat(FORMULA, [150, 45, 8])
    strategy = BlockWeightedSampling(4, weights=weights)
    our = [(LABELS[weighted(epoch, 4)] == "c").sum() for epoch in range(600)]
    its = [
        (LABELS[strategy.get_indices(np.arange(N), seed=epoch)] == "c").sum()
        for epoch in range(600)
    ]
    assert stats.ks_2samp(our, its).pvalue > 1e-3
    assert np.var(our) == pytest.approx(np.var(its), rel=0.3)


def test_draws_that_come_together_are_next_to_each_other_in_the_sorted_draws():
    config = Loading(
        strategy="block_weighted", block_size=4, weight_by=["l"], num_samples=200, fetch_factor=1
    )
    strategy = BlockWeightedSampling(4, weights=np.ones(N), total_size=200)
    for found in (
        epoch_of(CellsInARow(N, l=LABELS), config, epoch=3),
        strategy.get_indices(np.arange(N), seed=3),
    ):
        runs = found.reshape(-1, 4)
        assert (np.diff(runs, axis=1) >= 0).all()
        assert np.array_equal(np.sort(found), runs[np.lexsort((runs[:, 3], runs[:, 0]))].ravel())
        assert not np.array_equal(np.sort(found), found)


def test_classes_are_drawn_alike_as_theirs():
    config = Loading(strategy="class_balanced", block_size=4, weight_by=["l"])
    strategy = ClassBalancedSampling(LABELS, block_size=4)
    our, its = (np.zeros(3), np.zeros(3))
    for epoch in range(200):
        drawn = LABELS[epoch_of(CellsInARow(N, l=LABELS), config, epoch=epoch)]
        our += [(drawn == each).sum() for each in "abc"]
        other = LABELS[strategy.get_indices(np.arange(N), seed=epoch)]
        its += [(other == each).sum() for each in "abc"]
    for found in (our, its):
        assert stats.chisquare(found).pvalue > 1e-3


def test_epochs_differ_where_theirs_repeat():
    """Their DataLoader workers count epochs in copies of the dataset, ours are told the epoch."""
    from torch.utils.data import DataLoader

    cells = scDataset(np.arange(64), BlockShuffling(4), 8, 2, rank=0, world_size=1, seed=0)
    loader = DataLoader(cells, batch_size=None, num_workers=1)
    epochs = [[cell for batch in loader for cell in batch.tolist()] for _ in range(2)]
    assert epochs[0] == epochs[1]
    our = [seen_in(steps_of(CellsInARow(64, 4), Loading(), 1, 8, epoch)) for epoch in range(2)]
    assert our[0] != our[1]
