import numpy as np
import pytest

from vcpipe.config.tokens import Panels
from vcpipe.data.draws import Draw
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.panel_views import is_empty, two_views
from vcpipe.data.tokens.panels import PanelPair

NUM_GENES = 203
EVEN, ODD = np.arange(4, NUM_GENES, 2, np.int32), np.arange(3, NUM_GENES, 2, np.int32)


def pair_of(first, second) -> PanelPair:
    return PanelPair(np.asarray(first, np.int32), np.asarray(second, np.int32), "random", False)


def views_of(rows, special, pairs=None, pair=None, draw=None, **settings):
    pairs = [pair_of(EVEN, ODD)] if pairs is None else pairs
    pair = np.zeros(len(rows), int) if pair is None else pair
    values = np.log1p(rows.counts).astype(np.float32)
    return two_views(
        rows, values, pairs, pair, NUM_GENES, Panels(**settings), special, draw or Draw(0, 0)
    )


def plain_view(rows: Rows, panel, max_tokens, generator):
    """The same with dense arrays in numpy: (genes, values) of every cell."""
    counts = np.zeros((len(rows), NUM_GENES), np.uint32)
    for cell in range(len(rows)):
        its = slice(rows.starts[cell], rows.starts[cell + 1])
        counts[cell, rows.ids[its]] = rows.counts[its]
    made = []
    for row in counts:
        genes = panel[row[panel] > 0]
        order = np.lexsort((generator.random(len(genes)), -row[genes].astype(np.int64)))
        genes = genes[order][: max_tokens - 1]
        made.append((genes, np.log1p(row[genes])))
    return made


def test_a_view_holds_cls_and_the_most_expressed_genes_of_its_panel(rows, special):
    views = views_of(rows, special, max_tokens=30)
    for view, panel in zip(views, (EVEN, ODD), strict=True):
        plain = plain_view(rows, panel, 30, np.random.default_rng(0))
        for cell, (_, values) in enumerate(plain):
            its = slice(view.starts[cell] + 1, view.starts[cell + 1])
            assert view.genes[view.starts[cell]] == special.cls_id
            assert view.values[view.starts[cell]] == special.cls_value
            assert np.isin(view.genes[its], panel).all()
            assert len(set(view.genes[its].tolist())) == len(values)
            np.testing.assert_allclose(view.values[its], values, rtol=1e-6)
    assert np.array_equal(views[0].keys, rows.keys)


def test_every_gene_keeps_its_own_value(rows, special):
    for view in views_of(rows, special):
        for cell in range(len(rows)):
            its = slice(rows.starts[cell], rows.starts[cell + 1])
            count_of = dict(zip(rows.ids[its], rows.counts[its], strict=True))
            mine = slice(view.starts[cell] + 1, view.starts[cell + 1])
            expected = np.log1p([float(count_of[gene]) for gene in view.genes[mine]])
            np.testing.assert_allclose(view.values[mine], expected, rtol=1e-6)


def test_views_on_disjoint_panels_share_no_gene(rows, special):
    first, second = (set(view.genes.tolist()) for view in views_of(rows, special))
    assert first & second == {special.cls_id}


def test_equal_counts_do_not_come_by_their_ids(special):
    ids = np.arange(3, NUM_GENES, dtype=np.int32)
    rows = Rows(
        np.array([0, len(ids)]),
        ids,
        np.ones(len(ids), np.uint32),
        np.array([len(ids)], np.uint64),
        np.array([1], np.uint64),
    )
    kept, places = np.zeros(NUM_GENES), np.zeros(NUM_GENES)
    for epoch in range(400):
        views = views_of(rows, special, [pair_of(ids, ids)], draw=Draw(0, epoch), max_tokens=51)
        for view in views:
            kept[view.genes[1:]] += 1
            places[view.genes[1:]] += np.arange(50)
    assert kept[ids].sum() == 2 * 400 * 50
    thirds = [part.mean() / 200 for part in np.array_split(kept[ids], 3)]
    np.testing.assert_allclose(thirds, 1, atol=0.05)
    # 800 draws, each keeps a quarter.
    assert kept[ids].std() < 1.3 * np.sqrt(800 * 0.25 * 0.75)
    ranks = [part.mean() for part in np.array_split(places[ids] / kept[ids], 3)]
    np.testing.assert_allclose(ranks, 24.5, atol=1)


def test_views_do_not_depend_on_grouping_or_order(rows, special, pick, cells_of):
    settings = {"max_tokens": 20, "feature_max_drop_rate": 0.5}
    whole = [cells_of(view) for view in views_of(rows, special, **settings)]
    order = list(np.random.default_rng(1).permutation(len(rows)))
    for part in (order[:7], order[7:8], order[8:]):
        parts = views_of(pick(rows, part), special, **settings)
        for view, all_cells in zip(parts, whole, strict=True):
            for key, tokens in cells_of(view).items():
                assert tokens == all_cells[key]


def test_another_epoch_or_seed_gives_other_views(rows, special):
    first = views_of(rows, special)[0].genes
    for draw in (Draw(0, 1), Draw(1, 0)):
        assert not np.array_equal(views_of(rows, special, draw=draw)[0].genes, first)


def test_cells_may_have_pairs_of_their_own(rows, special):
    pairs = [pair_of(EVEN, ODD), pair_of(ODD, EVEN)]
    pair = np.arange(len(rows)) // 3 % 2
    first, second = views_of(rows, special, pairs, pair)
    for cell in range(len(rows)):
        for view, parity in ((first, 0), (second, 1)):
            genes = view.genes[view.starts[cell] + 1 : view.starts[cell + 1]]
            assert (genes % 2 == (parity + pair[cell]) % 2).all()


def test_a_drawn_share_of_detected_genes_is_left_out(rows, special):
    whole = views_of(rows, special)[0]
    sizes = np.diff(whole.starts)[:-1] - 1
    shares = []
    for epoch in range(50):
        view = views_of(rows, special, draw=Draw(0, epoch), feature_max_drop_rate=0.4)[0]
        shares.append((np.diff(view.starts)[:-1] - 1) / sizes)
    shares = np.concatenate(shares)
    assert 0.6 <= shares.min() < 0.65
    assert 0.95 < shares.max() <= 1
    assert abs(shares.mean() - 0.8) < 0.02


def test_an_empty_view_is_cls_and_is_told(rows, special):
    first, second = views_of(rows, special, [pair_of([4, 6], ODD)])
    lengths = np.diff(first.starts)
    assert np.array_equal(is_empty(first), lengths == 1)
    assert is_empty(first).any()
    assert not is_empty(first).all()
    # The last cell has no gene at all.
    assert is_empty(second).tolist() == [False] * (len(rows) - 1) + [True]
    assert (first.genes[first.starts[:-1]] == special.cls_id).all()


@pytest.mark.parametrize("max_tokens", [8, 1000])
def test_no_view_is_longer_than_max_tokens(rows, special, max_tokens):
    for view in views_of(rows, special, max_tokens=max_tokens):
        assert np.diff(view.starts).max() <= max_tokens
