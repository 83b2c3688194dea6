import numpy as np
import pytest

from vcpipe.config.fitting import Fit
from vcpipe.config.tokens import Tokenizer
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.tokenize import tokenize
from vcpipe.data.tokens.truncation import measured_by


def ranked(rows, special, fitted, **settings):
    config = Tokenizer(**({"strategy": "rank_value", "prepend_cls": False} | settings))
    return tokenize(rows, special, config, fitted, seed=0, epoch=0)


def test_genes_descend_by_their_values(rows, special, fitted):
    tokens = ranked(rows, special, fitted)
    for cell in range(len(rows)):
        values = tokens.values[tokens.starts[cell] : tokens.starts[cell + 1]]
        assert (np.diff(values) <= 0).all()
        counts = rows.counts[rows.starts[cell] : rows.starts[cell + 1]].astype(float)
        expected = np.log1p(counts * 1e4 / float(rows.totals[cell]))
        np.testing.assert_allclose(np.sort(values), np.sort(expected), rtol=1e-6)


def test_every_gene_keeps_its_own_value(rows, special, fitted):
    tokens = ranked(rows, special, Fitted(Fit(normalize=None, log1p=False)))
    for cell in range(len(rows)):
        mine, its = (slice(x.starts[cell], x.starts[cell + 1]) for x in (tokens, rows))
        count_of = dict(zip(rows.ids[its], rows.counts[its], strict=True))
        assert [count_of[gene] for gene in tokens.genes[mine]] == tokens.values[mine].tolist()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rank_normalization": "gene_median"},
        {"strategy": "binned_expression"},
        {"truncation": "random"},
    ],
    ids=str,
)
def test_tied_genes_are_kept_alike_whatever_their_id(special, settings):
    """scConcept breaks ties by id: the first sixth stays in 52 % of cells, the last in 0.5 %."""
    num_cells, num_genes, room = 600, 120, 40
    counts = np.ones((num_cells, num_genes), dtype=np.uint32)
    counts[:, ::12] = 9
    rows = Rows(
        np.arange(num_cells + 1) * num_genes,
        np.tile(np.arange(3, 3 + num_genes, dtype=np.int32), num_cells),
        counts.ravel(),
        counts.sum(axis=1).astype(np.uint64),
        np.random.default_rng(1).integers(0, 2**63, num_cells).astype(np.uint64),
    )
    fitted = Fitted(Fit(), gene_medians=np.ones(123))
    tokens = ranked(rows, special, fitted, max_genes=room, **settings)
    kept = np.bincount(tokens.genes - 3, minlength=num_genes)
    is_high = np.arange(num_genes) % 12 == 0
    if "truncation" not in settings:
        assert (kept[is_high] == num_cells).all()
        share = (room - 10) / 110
    else:
        share = room / num_genes
    sixths = np.array_split(kept[~is_high] / num_cells, 6)
    np.testing.assert_allclose([each.mean() for each in sixths], share, atol=0.03)


def test_places_of_ties_do_not_follow_ids(rows, special, fitted):
    tokens = ranked(rows, special, fitted)
    rises = total = 0
    for cell in range(len(rows)):
        mine = slice(tokens.starts[cell], tokens.starts[cell + 1])
        tied = np.diff(tokens.values[mine]) == 0
        rises += (np.diff(tokens.genes[mine])[tied] > 0).sum()
        total += tied.sum()
    assert total > 1000
    assert 0.45 < rises / total < 0.55


def test_ranking_over_medians_orders_by_the_quotient(rows, special, fitted):
    medians = fitted.gene_medians.copy()
    medians[50] = np.nan
    known = Fitted(Fit(), gene_medians=medians)
    tokens = ranked(rows, special, known, rank_normalization="gene_median", max_genes=30)
    plain = ranked(rows, special, known, max_genes=30)
    assert not np.array_equal(tokens.genes, plain.genes)
    for cell in range(len(rows)):
        mine, its = (slice(x.starts[cell], x.starts[cell + 1]) for x in (tokens, rows))
        weight_of = dict(zip(rows.ids[its], rows.counts[its] / medians[rows.ids[its]], strict=True))
        weight_of.pop(50, None)
        weights = [weight_of[gene] for gene in tokens.genes[mine]]
        np.testing.assert_allclose(weights, sorted(weight_of.values(), reverse=True)[:30])


def test_undetected_genes_follow_in_drawn_order(rows, special, fitted):
    config = Tokenizer(strategy="rank_value", max_genes=41, include_zero_genes=0.5)
    measured = measured_by([np.arange(3, 203)], np.zeros(len(rows), dtype=int))
    tokens = tokenize(rows, special, config, fitted, seed=0, epoch=0, measured=measured)
    for cell in range(len(rows) - 1):
        found = slice(tokens.starts[cell], tokens.starts[cell + 1])
        assert (tokens.values[found][1:21] > 0).all()
        assert (tokens.values[found][21:] == 0).all()
        assert len(tokens.genes[found]) == 41
        assert (np.diff(tokens.genes[found][21:]) < 0).any()
