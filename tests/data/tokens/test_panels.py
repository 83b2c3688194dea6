import numpy as np
import pytest
from pydantic import ValidationError

from vcpipe.config.tokens import Panels
from vcpipe.data.draws import Draw
from vcpipe.data.panel_files import Panel
from vcpipe.data.tokens.panels import draw_pairs, draw_panels, panel_source
from vcpipe.errors import InputError

MEASURED = np.arange(5, 2000, 2)
FILE = Panel("xenium", np.arange(5, 305, 1, dtype=np.int32), 300)  # half of it is measured


def source_of(config, panels=(), measured=MEASURED):
    return panel_source("a", measured, panels, config)


def draws(config, panels=(), number=300, seed=0):
    source = source_of(config, panels)
    return [draw_panels(source, config, Draw(seed, 0), batch) for batch in range(number)]


def from_files(**settings):
    return Panels(
        **(
            {"folder": "panels", "panel_selection": "preselected", "panel_min_genes": 500}
            | settings
        )
    )


def test_disjoint_panels_share_no_gene_and_hold_measured_genes_only():
    for pair in draws(Panels()):
        assert not np.intersect1d(pair.first, pair.second).size
        for panel in (pair.first, pair.second):
            assert np.isin(panel, MEASURED).all()
            assert (np.diff(panel) > 0).all()
        assert not pair.may_overlap


def test_overlap_comes_as_often_as_it_should():
    pairs = draws(Panels(panel_overlap=0.3, panel_size_min=300, panel_size_max=300), number=1000)
    assert 0.25 < np.mean([pair.may_overlap for pair in pairs]) < 0.35
    for pair in pairs:
        shared = np.intersect1d(pair.first, pair.second).size
        assert (shared > 0) == pair.may_overlap
    assert all(pair.may_overlap for pair in draws(Panels(panel_overlap=1.0)))


def test_sizes_are_log_uniform_within_their_bounds():
    config = Panels(panel_size_min=10, panel_size_max=400)
    pairs = draws(config, number=2000)
    for sizes in (
        np.array([len(pair.first) for pair in pairs]),
        np.array([len(pair.second) for pair in pairs]),
    ):
        assert sizes.min() >= 10
        assert sizes.max() <= 400
        # Shares of the logarithm's four quarters.
        places = np.log(sizes / 10) / np.log(40)
        quarters = np.histogram(places, [0, 0.25, 0.5, 0.75, 1.01])[0] / len(pairs)
        np.testing.assert_allclose(quarters, 0.25, atol=0.05)


def test_sizes_below_one_are_shares_of_the_measured_genes():
    source = source_of(Panels(panel_size_min=0.1, panel_size_max=0.2))
    assert (source.size_min, source.size_max) == (100, 200)


def test_enough_genes_remain_for_the_second_view():
    config = Panels(panel_size_min=300, panel_size_max=5000)
    pairs = draws(config)
    assert max(len(pair.first) for pair in pairs) > 600
    for pair in pairs:
        assert 300 <= len(pair.first) <= len(MEASURED) - 300
        assert len(pair.second) >= 300
    whole = Panel("all", MEASURED.astype(np.int32), len(MEASURED))
    for pair in draws(from_files(panel_size_min=300, panel_size_max=5000), [whole]):
        assert len(pair.second) >= 300
        assert not np.intersect1d(pair.first, pair.second).size


def test_every_gene_is_drawn_equally_often():
    config = Panels(panel_size_min=200, panel_size_max=200)
    drawn, second = np.zeros(2000), np.zeros(2000)
    for pair in draws(config, number=1000):
        drawn[pair.first] += 1
        second[pair.second] += 1
    for counts in (drawn, second):
        assert counts.sum() == counts[MEASURED].sum() == 200_000
        assert 0.8 < counts[MEASURED].std() / np.sqrt(1000 * 0.2 * 0.8) < 1.2


def test_a_panel_of_a_file_loses_a_uniform_share_of_its_genes():
    pairs = draws(from_files(panel_max_drop_rate=0.5), [FILE], number=1000)
    measured = np.intersect1d(FILE.genes, MEASURED)
    assert all(pair.name == "xenium" and np.isin(pair.first, measured).all() for pair in pairs)
    kept = np.array([len(pair.first) for pair in pairs]) / len(measured)
    assert 0.5 <= kept.min() < 0.52
    assert 0.98 < kept.max() <= 1
    assert abs(kept.mean() - 0.75) < 0.02


def test_without_a_drop_rate_all_measured_genes_of_the_file_are_the_panel():
    for pair in draws(from_files(panel_max_drop_rate=0.0), [FILE], number=5):
        assert np.array_equal(pair.first, np.intersect1d(FILE.genes, MEASURED))


def test_mixed_selection_takes_random_panels_at_its_share():
    other = Panel("cosmx", np.arange(1001, 1101, dtype=np.int32), 100)
    config = from_files(panel_selection="mixed", panel_selection_mixed_prob=0.25)
    names = [pair.name for pair in draws(config, [FILE, other], number=2000)]
    shares = {name: names.count(name) / len(names) for name in ("random", "xenium", "cosmx")}
    assert shares == pytest.approx({"random": 0.25, "xenium": 0.375, "cosmx": 0.375}, abs=0.04)


def test_a_pair_depends_on_seed_epoch_and_key_alone():
    config, other = from_files(panel_selection="mixed"), Draw(0, 1)
    source = source_of(config, [FILE])

    def drawn(draw, key):
        pair = draw_panels(source, config, draw, key)
        return pair.first.tolist(), pair.second.tolist()

    assert drawn(Draw(0, 0), 7) == drawn(Draw(0, 0), 7)
    assert len({str(drawn(*at)) for at in [(Draw(0, 0), 7), (Draw(0, 0), 8), (other, 7)]}) == 3


def test_a_batch_shares_one_pair_of_each_dataset():
    config = Panels()
    sources = [source_of(config), source_of(config, measured=np.arange(3000, 4000))]
    datasets, keys = np.array([1, 0, 1, 1]), np.arange(4, dtype=np.uint64)
    pairs, pair_of = draw_pairs(sources, datasets, keys, config, Draw(0, 0), 5)
    assert len(pairs) == 2
    assert pair_of.tolist() == [1, 0, 1, 1]
    assert pairs[1].first.min() >= 3000 > pairs[0].first.max()
    # Another process has other cells of the same batch.
    theirs, its = draw_pairs(sources, datasets[:1], keys[:1], config, Draw(0, 0), 5)
    assert its.tolist() == [0]
    assert np.array_equal(theirs[0].second, pairs[1].second)


def test_a_cell_can_have_a_pair_of_its_own():
    config = Panels(per="cell")
    keys = np.array([2**64 - 1, 3, 9], dtype=np.uint64)
    sources = [source_of(config)]
    pairs, pair_of = draw_pairs(sources, np.zeros(3, int), keys, config, Draw(0, 0), 5)
    assert pair_of.tolist() == [0, 1, 2]
    alone, _ = draw_pairs(sources, np.zeros(1, int), keys[2:], config, Draw(0, 0), 6)
    assert np.array_equal(alone[0].first, pairs[2].first)
    assert not np.array_equal(pairs[0].first, pairs[1].first)


def test_a_small_dataset_gets_random_panels_and_says_so():
    config = from_files(panel_min_genes=10_000)
    source = source_of(config, [FILE])
    assert source.note == (
        "panels of a are random: it measured 998 genes, fewer than panel_min_genes 10000"
    )
    assert draw_panels(source, config, Draw(0, 0), 0).name == "random"
    assert source_of(from_files(), [FILE]).note == ""


def test_panels_that_cannot_be_drawn_are_refused():
    with pytest.raises(
        InputError, match="measured 998 genes, but two panels of panel_size_min 600"
    ):
        source_of(Panels(panel_size_min=600, panel_size_max=700))
    with pytest.raises(InputError, match="give both as shares, or both as numbers"):
        source_of(Panels(panel_size_min=0.5, panel_size_max=100))
    with pytest.raises(InputError, match="there is no panel for a"):
        source_of(from_files())
    with pytest.raises(InputError, match="measured none of the 3 genes of panel far"):
        source_of(from_files(), [Panel("far", np.arange(3, dtype=np.int32) + 5000, 3)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"panel_selection": "mixed"}, "need a folder"),
        ({"folder": "panels"}, "random has no use for one"),
        ({"panel_size_min": 2.5}, "expected a whole number, or a share below 1"),
        ({"panel_size_min": 0.6}, "is above panel_size_max"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Panels(**settings)
