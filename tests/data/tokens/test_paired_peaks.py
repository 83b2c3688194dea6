import numpy as np
import pytest

from vcpipe.config.tokens import Tokenizer
from vcpipe.data.draws import Draw
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.asked_genes import balanced_numbers, genes_to_ask
from vcpipe.data.tokens.paired_peaks import (
    Chromosomes,
    padded_genes,
    padded_peaks,
    paired_batch,
)
from vcpipe.data.tokens.truncation import measured_by
from vcpipe.errors import InputError

NUM_CELLS, NUM_GENES, NUM_PEAKS = 24, 300, 900
CLS = 900
CHROMOSOMES = Chromosomes(
    np.append(np.arange(NUM_PEAKS) % 22, 24).astype(np.int32),
    (np.arange(NUM_GENES) % 21).astype(np.int32),
)
# The second dataset measured two genes of three.
GENES = {"a": np.arange(NUM_GENES), "b": np.flatnonzero(np.arange(NUM_GENES) % 3)}
DATASETS = np.arange(NUM_CELLS) % 2


def some_rows(generator, num_features, share, keys, allowed=None) -> Rows:
    counts = generator.poisson(share, (len(keys), num_features))
    if allowed is not None:
        counts *= allowed
    lengths = (counts > 0).sum(axis=1)
    return Rows(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        counts.nonzero()[1].astype(np.int32),
        counts[counts > 0].astype(np.uint32),
        counts.sum(axis=1).astype(np.uint64),
        keys,
    )


@pytest.fixture
def pairs():
    """RNA and ATAC of 24 cells of two datasets; the last cell has neither."""
    generator = np.random.default_rng(3)
    keys = generator.integers(0, 2**64, NUM_CELLS, dtype=np.uint64)
    allowed = np.array([np.isin(np.arange(NUM_GENES), GENES["ab"[d]]) for d in DATASETS])
    allowed[-1] = False
    rna = some_rows(generator, NUM_GENES, 0.3, keys, allowed)
    is_open = (np.arange(NUM_CELLS) < NUM_CELLS - 1)[:, None]
    return rna, some_rows(generator, NUM_PEAKS, 0.2, keys, is_open)


@pytest.fixture
def batch_of(pairs, pick):
    def batch_of(cells=None, seed=0, epoch=0, **settings):
        cells = list(range(NUM_CELLS)) if cells is None else cells
        rna, atac = (pick(rows, cells) for rows in pairs)
        config = Tokenizer(**({"strategy": "paired_peaks", "rna_max_len": 100} | settings))
        hvgs = np.array([4, 5, 6, 200])
        measured = measured_by(genes_to_ask(GENES, config, hvgs), DATASETS[cells])
        values = np.minimum(rna.counts, 2).astype(np.uint8)
        labels = {"batch": DATASETS[cells]}
        draw = Draw(seed, epoch)
        return paired_batch(rna, atac, values, measured, CHROMOSOMES, CLS, config, labels, draw)

    return batch_of


def held(starts, array, cell):
    return array[starts[cell] : starts[cell + 1]].tolist()


def cells_in(batch):
    """Everything that a batch says of each of its cells."""
    return [
        tuple(
            held(batch.peak_starts, array, cell) for array in (batch.peaks, batch.peak_chromosomes)
        )
        + tuple(
            held(batch.gene_starts, array, cell)
            for array in (batch.genes, batch.gene_chromosomes, batch.targets)
        )
        for cell in range(len(batch))
    ]


def test_tokens_are_cls_and_all_open_peaks_with_their_chromosomes(pairs, batch_of):
    batch, atac = batch_of(), pairs[1]
    for cell in range(NUM_CELLS):
        peaks = [CLS, *held(atac.starts, atac.ids, cell)]
        assert held(batch.peak_starts, batch.peaks, cell) == peaks
        of_peaks = [24, *(peak % 22 for peak in peaks[1:])]
        assert held(batch.peak_starts, batch.peak_chromosomes, cell) == of_peaks


@pytest.mark.parametrize("longest", [20, 120])
def test_a_longer_cell_keeps_cls_and_a_drawn_subset_of_its_peaks(pairs, batch_of, longest):
    batch, atac = batch_of(atac_max_len=longest), pairs[1]
    for cell in range(NUM_CELLS):
        cls, *peaks = held(batch.peak_starts, batch.peaks, cell)
        whole = held(atac.starts, atac.ids, cell)
        assert cls == CLS
        assert len(peaks) == min(longest - 1, len(whole))
        assert set(peaks) <= set(whole)
        assert peaks == sorted(set(peaks))


def test_every_peak_of_a_longer_cell_is_kept_equally_often(batch_of, pairs):
    whole = held(pairs[1].starts, pairs[1].ids, 0)
    kept = np.zeros(NUM_PEAKS)
    for epoch in range(400):
        kept[batch_of([0], epoch=epoch, atac_max_len=51).peaks[1:]] += 1
    shares = kept[whole] / 400
    assert kept.sum() == 400 * 50
    expected = 50 / len(whole)
    assert abs(shares - expected).max() < 5 * np.sqrt(expected * (1 - expected) / 400)


def test_half_of_the_genes_asked_for_are_detected_and_none_is_unmeasured(pairs, batch_of):
    batch, rna = batch_of(), pairs[0]
    for cell in range(NUM_CELLS):
        genes = held(batch.gene_starts, batch.genes, cell)
        targets = held(batch.gene_starts, batch.targets, cell)
        detected = dict(
            zip(held(rna.starts, rna.ids, cell), held(rna.starts, rna.counts, cell), strict=True)
        )
        assert genes == sorted(set(genes))
        assert set(genes) <= set(GENES["ab"[DATASETS[cell]]])
        assert targets == [min(detected.get(gene, 0), 2) for gene in genes]
        half = min(50, len(detected))
        assert len(genes) == 2 * half
        assert np.count_nonzero(targets) == half
        chromosomes = held(batch.gene_starts, batch.gene_chromosomes, cell)
        assert chromosomes == [gene % 21 for gene in genes]


@pytest.mark.parametrize("limit", [100, 60])
def test_every_undetected_gene_is_asked_for_equally_often(batch_of, pairs, limit):
    detected = set(held(pairs[0].starts, pairs[0].ids, 1))
    others = [gene for gene in GENES["b"] if gene not in detected]
    asked, epochs = np.zeros(NUM_GENES), 600
    for epoch in range(epochs):
        asked[batch_of([1], epoch=epoch, rna_max_len=limit).genes] += 1
    expected = asked[others].mean() / epochs
    spread = np.sqrt(expected * (1 - expected) / epochs)
    assert abs(asked[others] / epochs - expected).max() < 5 * spread
    # In units of its own spread the frequency varies as one of independent draws would.
    assert 0.5 < (asked[others] / epochs).std() / spread < 1.5


def test_more_than_half_of_the_undetected_genes_can_be_drawn(batch_of, pairs):
    batch = batch_of([0], rna_nonzero_fraction=0.3, rna_max_len=200)
    num_detected = pairs[0].starts[1]
    assert num_detected > 60
    assert np.count_nonzero(batch.targets) == 60
    assert len(batch.genes) == 200
    assert len(set(batch.genes.tolist())) == 200


def test_an_odd_rna_max_len_asks_for_equal_halves():
    wanted, others = balanced_numbers(np.array([40]), np.array([60]), 31, 0.5)
    assert (wanted, others) == (15, 15)


@pytest.mark.parametrize("share", [0.1, 0.29, 0.3, 0.7, 0.9])
def test_shares_give_whole_numbers_that_fit(share):
    for limit in (2, 10, 100, 8000):
        wanted, others = balanced_numbers(np.array([20_000]), np.array([70_000]), limit, share)
        assert wanted[0] == round(limit * share - 0.5 + 1e-9)
        assert wanted[0] + others[0] <= limit


def test_full_sampling_asks_for_all_that_a_dataset_measured(pairs, batch_of):
    batch, rna = batch_of(rna_sampling="full"), pairs[0]
    for cell in range(NUM_CELLS):
        genes = GENES["ab"[DATASETS[cell]]]
        assert held(batch.gene_starts, batch.genes, cell) == genes.tolist()
        expected = np.zeros(NUM_GENES, int)
        its = slice(rna.starts[cell], rna.starts[cell + 1])
        expected[rna.ids[its]] = np.minimum(rna.counts[its], 2)
        assert held(batch.gene_starts, batch.targets, cell) == expected[genes].tolist()


def test_hvg_sampling_asks_for_the_hvgs_that_were_measured(batch_of):
    batch = batch_of(rna_sampling="hvg")
    full = batch_of(rna_sampling="full")
    for cell in range(NUM_CELLS):
        hvgs = [4, 5, 200] if DATASETS[cell] else [4, 5, 6, 200]
        assert held(batch.gene_starts, batch.genes, cell) == hvgs
        targets = dict(
            zip(*(held(full.gene_starts, x, cell) for x in (full.genes, full.targets)), strict=True)
        )
        expected = [targets[gene] for gene in hvgs]
        assert held(batch.gene_starts, batch.targets, cell) == expected


def test_batches_do_not_depend_on_grouping_or_order(batch_of):
    settings = {"atac_max_len": 60, "rna_max_len": 50}
    whole = cells_in(batch_of(**settings))
    order = np.random.default_rng(0).permutation(NUM_CELLS)
    parts = [cells_in(batch_of(list(cells), **settings)) for cells in np.array_split(order, 5)]
    assert [whole[cell] for cell in order] == [cell for part in parts for cell in part]


def test_another_epoch_or_seed_draws_others_and_the_same_one_the_same(batch_of):
    settings = {"atac_max_len": 60, "rna_max_len": 50}
    first = cells_in(batch_of(**settings))
    assert cells_in(batch_of(**settings)) == first
    for other in ({"epoch": 1}, {"seed": 1}):
        cells = cells_in(batch_of(**settings, **other))
        for mine, its in zip(first[:-1], cells[:-1], strict=True):
            assert mine[0] != its[0]
            assert mine[2] != its[2]


def test_a_cell_without_peaks_and_genes_is_cls_and_no_question(batch_of):
    batch = batch_of([NUM_CELLS - 1])
    assert batch.peaks.tolist() == [CLS]
    assert len(batch.genes) == len(batch.targets) == 0
    assert len(batch) == 1


def test_padding_is_told_from_what_is_real(batch_of):
    batch = batch_of()
    peaks, genes = padded_peaks(batch, 901, 25), padded_genes(batch, 300, 22, -2)
    assert np.array_equal(peaks["peaks"][peaks["real"]], batch.peaks)
    assert np.array_equal(peaks["peaks"].flat[peaks["places"]], batch.peaks)
    assert np.array_equal(peaks["starts"], batch.peak_starts)
    assert (peaks["peaks"][~peaks["real"]] == 901).all()
    assert (peaks["peak_chromosomes"][~peaks["real"]] == 25).all()
    assert np.array_equal(genes["targets"][genes["real"]], batch.targets)
    assert (genes["targets"][~genes["real"]] == -2).all()
    assert np.array_equal(genes["real"].sum(axis=1), np.diff(batch.gene_starts))
    assert batch.labels["batch"].tolist() == DATASETS.tolist()


def test_genes_that_one_file_of_a_dataset_measured_are_asked_for_where_a_cell_shows_them(pairs):
    """Of what all files measured, genes 0 to 99, come the undetected ones alone."""
    rna, atac = pairs
    measured = measured_by([np.arange(100)], np.zeros(NUM_CELLS, int))
    config, values = Tokenizer(strategy="paired_peaks"), np.ones(len(rna.ids), np.uint8)
    batch = paired_batch(rna, atac, values, measured, CHROMOSOMES, CLS, config, {}, Draw(0, 0))
    for cell in range(NUM_CELLS - 1):
        detected = set(held(rna.starts, rna.ids, cell))
        assert max(detected) >= 100
        genes = held(batch.gene_starts, batch.genes, cell)
        targets = held(batch.gene_starts, batch.targets, cell)
        asked = dict(zip(genes, targets, strict=True))
        assert genes == sorted(asked)
        assert {gene for gene, target in asked.items() if target} == detected
        undetected = set(range(100)) - detected
        assert asked.keys() - detected <= undetected
        assert len(asked) == len(detected) + min(len(detected), len(undetected))


def test_hvgs_that_were_not_chosen_or_measured_are_refused():
    config = Tokenizer(strategy="paired_peaks", rna_sampling="hvg")
    with pytest.raises(InputError, match="no highly variable genes were chosen; set hvg_selection"):
        genes_to_ask(GENES, config, None)
    with pytest.raises(InputError, match="dataset b measured none of the genes"):
        genes_to_ask(GENES, config, np.array([0, 3]))
