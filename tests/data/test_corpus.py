import numpy as np
import pytest

from vcpipe.config.atlases import Atlas
from vcpipe.config.fitting import CellSplit
from vcpipe.config.gears import Conversion
from vcpipe.config.splits import Split
from vcpipe.data.cell_sets import LEFT_OUT, TEST, TRAIN, VAL
from vcpipe.data.corpus import open_corpus
from vcpipe.data.gears import convert
from vcpipe.data.splits import (
    draw_controls,
    draw_split,
    training_rows,
    write_controls,
    write_split,
)
from vcpipe.errors import InputError

NOTHING_DRAWN = CellSplit()


@pytest.fixture
def atlas(counts, tmp_path):
    """The tiny cells as an atlas of two batches."""
    counts.write_h5ad(tmp_path / "atlas.h5ad")
    return Atlas(rna={"paths": [str(tmp_path / "atlas.h5ad")]}, batch_key="batch")


@pytest.fixture
def tables(screen, tmp_path):
    """Files of a split and of controls."""
    split, controls = draw_split(screen, Split(seed=1))[0], draw_controls(screen, seed=1)
    write_split(tmp_path / "split.tsv", split)
    write_controls(tmp_path / "controls.tsv", controls)
    return [tmp_path / "split.tsv"], [tmp_path / "controls.tsv"], (split, controls)


def test_a_screen_and_an_atlas_are_one_corpus_each_with_its_own_split(screen, atlas, tables):
    by_batch = CellSplit(method="grouped", key="batch", val_groups=["b1"])
    corpus = open_corpus([screen.path], *tables[:2], {"a": atlas}, by_batch)
    assert [source.dataset for source in corpus.sources] == ["tiny", "a"]
    of_screen, of_atlas = corpus.sets
    rows = training_rows(screen, *tables[2])
    assert np.array_equal(np.flatnonzero(of_screen == TRAIN), rows)
    assert 0 < len(rows) < 120
    assert set(of_screen[np.setdiff1d(np.arange(120), rows)]) == {LEFT_OUT}
    assert np.array_equal(of_atlas == VAL, corpus.sources[1].labels["batch"] == "b1")
    assert set(of_atlas) == {TRAIN, VAL}
    assert corpus.holds_out
    (seen,) = corpus.seen.values()
    assert list(corpus.seen) == [screen.data_digest]
    assert seen["condition"] == sorted(set(screen.condition[rows]))


def test_without_a_split_a_screen_is_learned_from_whole(screen):
    corpus = open_corpus([screen.path], [], [], {}, NOTHING_DRAWN)
    assert (corpus.sets[0] == TRAIN).all()
    assert not corpus.holds_out


def test_sets_of_an_atlas_do_not_depend_on_what_is_beside_it(
    screen, atlas, tables, counts, tmp_path
):
    drawn = CellSplit(val=0.2, test=0.2, seed=3)
    alone = open_corpus([], [], [], {"a": atlas}, drawn)
    counts[:50].copy().write_h5ad(tmp_path / "other.h5ad")
    other = Atlas(rna={"paths": [str(tmp_path / "other.h5ad")]})
    beside = open_corpus([screen.path], *tables[:2], {"b": other, "a": atlas}, drawn)
    assert [source.dataset for source in beside.sources] == ["tiny", "a", "b"]
    assert np.array_equal(alone.sets[0], beside.sets[1])
    assert set(alone.sets[0]) == {TRAIN, VAL, TEST}


@pytest.mark.parametrize(
    ("splits", "controls", "message"),
    [
        (1, 0, "1 --screens, 1 --split, 0 --controls"),
        (0, 1, "1 --screens, 0 --split, 1 --controls"),
        (2, 2, "1 --screens, 2 --split, 2 --controls"),
    ],
)
def test_every_screen_has_a_split_and_a_table_of_controls(
    screen, tables, splits, controls, message
):
    with pytest.raises(InputError, match=f"{message}; expected as many of each, or neither"):
        open_corpus([screen.path], tables[0] * splits, tables[1] * controls, {}, NOTHING_DRAWN)


def test_a_corpus_of_atlases_has_no_use_for_a_split(atlas, tables):
    with pytest.raises(InputError, match="0 --screens, 1 --split, 1 --controls"):
        open_corpus([], *tables[:2], {"a": atlas}, NOTHING_DRAWN)


def test_a_file_under_two_names_is_refused(atlas, tmp_path):
    copy = tmp_path / "copy.h5ad"
    copy.write_bytes((tmp_path / "atlas.h5ad").read_bytes())
    # Other labels, and other digests of what is read: the cells are the same.
    other = Atlas(rna={"paths": [str(copy)]}, cell_type_key="target_gene")
    drawn = CellSplit(val=0.2, test=0.2, seed=3)
    with pytest.raises(InputError, match=r"copy\.h5ad of 'b' and .*atlas\.h5ad of 'a' have"):
        open_corpus([], [], [], {"a": atlas, "b": other}, drawn)


def test_a_screen_under_two_names_is_refused(screen, counts, tmp_path):
    again = tmp_path / "again" / "perturb_processed.h5ad"
    convert(tmp_path / "counts.h5ad", "again", Conversion(), again)
    with pytest.raises(InputError, match=r"of 'again' and .* of 'tiny' have the same content"):
        open_corpus([screen.path, again], [], [], {}, NOTHING_DRAWN)
