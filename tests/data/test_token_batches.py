import numpy as np
import pytest

from tests.prepared import prepare
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.label_numbers import LabelNumbers
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.order import BatchDraw
from vcpipe.data.token_batches import TokenBatches
from vcpipe.data.tokens.fitted import fitted_of
from vcpipe.data.tokens.masking import hidden_values
from vcpipe.data.tokens.packing import specials
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError

HALF = {"mask_ratio": [0.5]}
LOGS = {"strategy": "continuous_projection"}


@pytest.fixture
def make(screen, tmp_path):
    def batches(genes=None, **tokenizer) -> TokenBatches:
        store, names, record = prepare(tmp_path / "corpus", screen, genes=genes)
        ids = names.vocabularies.genes["human"].ids
        config = Pretrain(corpus="c", masked_values=HALF, tokenizer={"max_genes": 64} | tokenizer)
        return TokenBatches(
            specials(ids, names.vocabularies.special_tokens),
            fitted_of(record, "human"),
            config,
            hidden_values(config.masked_values.mask_ratio),
            StoreReader(store),
        )

    return batches


def made(batches: TokenBatches, cells: np.ndarray, draw: BatchDraw) -> dict:
    return batches.batch(batches.reader.read(cells), np.arange(len(cells)), draw)


def whole(batch: dict) -> np.ndarray:
    """The values before some were hidden."""
    values = batch["values"].copy()
    values[batch["chosen"]] = batch["target_values"]
    return values


def test_a_cell_begins_with_cls_and_ends_in_padding(make):
    batches = make()
    batch = made(batches, np.arange(8), BatchDraw(0, 0))
    assert (batch["genes"][:, 0] == batches.special.cls_id).all()
    assert not batch["chosen"][:, 0].any()
    assert (batch["genes"][~batch["real"]] == batches.special.pad_id).all()
    assert not (batch["genes"][batch["real"]] == batches.special.pad_id).any()


def test_values_are_bins_or_logarithms_as_asked(make, screen):
    binned = made(make(), np.arange(3), BatchDraw(0, 0))
    batches = make(**LOGS)
    logs = made(batches, np.arange(3), BatchDraw(0, 0))
    assert np.array_equal(binned["genes"], logs["genes"])
    assert whole(binned).max() == 50
    (name,) = batches.reader.store.labels([0], ["cell"])["cell"].to_pylist()
    row = screen.values(np.flatnonzero(screen.cells == name)).toarray()[0]
    names = np.array(batches.reader.store.feature_names("rna", "human"))
    shown = dict(zip(names[logs["genes"][0]], whole(logs)[0], strict=True))
    expected = dict(zip(screen.genes, row, strict=True))
    for gene, value in shown.items():
        if gene in expected:
            assert value == pytest.approx(expected[gene], rel=1e-6)
    assert {gene for gene, value in expected.items() if value} == set(shown) & set(expected)


def test_hidden_values_are_not_in_the_batch(make):
    batch = made(make(**LOGS), np.arange(8), BatchDraw(0, 0))
    assert (batch["values"][batch["chosen"]] == -1).all()
    assert len(batch["target_values"]) == batch["chosen"].sum() > 0
    assert not batch["chosen"][~batch["real"]].any()


@pytest.mark.parametrize("hidden_last", [False, True])
def test_real_tokens_are_packed_cell_by_cell(make, hidden_last):
    batches = make()
    batches.hidden_last = hidden_last
    batch = made(batches, np.arange(8), BatchDraw(0, 0))
    places, starts = batch["places"], batch["starts"]
    assert starts.dtype == np.int32
    assert np.array_equal(np.diff(starts), batch["real"].sum(1))
    assert np.array_equal(np.sort(places), np.flatnonzero(batch["real"]))
    rows = places // batch["real"].shape[1]
    assert np.array_equal(rows, np.repeat(np.arange(8), np.diff(starts)))
    assert (batch["genes"].ravel()[places[starts[:-1]]] == batches.special.cls_id).all()
    is_hidden = batch["chosen"].ravel()[places]
    assert np.array_equal(batch["scored"], np.flatnonzero(is_hidden))
    assert np.array_equal(batch["genes"].ravel()[places[batch["scored"]]], batch["target_genes"])
    assert ("known" in batch) == hidden_last
    for cell in range(8 if hidden_last else 0):
        its, known = is_hidden[starts[cell] : starts[cell + 1]], batch["known"][cell]
        assert not its[:known].any()
        assert its[known:].all()


def test_labels_are_the_numbers_of_their_vocabulary(make, screen):
    batches = make()
    store = batches.reader.store
    assert "batch" not in made(batches, np.arange(4), BatchDraw(0, 0))
    vocabulary = Vocabulary({"b0": 7, "b1": 3, "other": 1})
    batches.labels = {"batch": LabelNumbers(store, "batch", vocabulary)}
    cells = np.array([5, 0, 40, 7])
    found = made(batches, cells, BatchDraw(0, 0))["batch"]
    names = store.labels(batches.reader.store_positions(cells), ["batch"])["batch"].to_pylist()
    assert found.tolist() == [vocabulary.ids[name] for name in names]
    assert set(found) == {3, 7}


def test_a_label_that_the_store_or_the_vocabulary_lacks_is_named(make):
    store = make().reader.store
    with pytest.raises(InputError, match=r"has no label 'donor'; it has .*Set donor_key"):
        LabelNumbers(store, "donor", Vocabulary({}))
    with pytest.raises(InputError, match="has the batch b1, which its vocabulary lacks"):
        LabelNumbers(store, "batch", Vocabulary({"b0": 0}))


def test_a_batch_does_not_depend_on_its_step_its_rank_or_the_cells_beside(make):
    batches = make(max_genes=12, truncation="random")
    together = made(batches, np.arange(6), BatchDraw(3, 1, step=0, rank=0))
    for cell in range(6):
        alone = made(batches, np.array([cell]), BatchDraw(3, 1, step=9, rank=4))
        for key in ("genes", "values", "chosen"):
            assert np.array_equal(alone[key][0], together[key][cell][: alone[key].shape[1]])
    other = made(batches, np.arange(6), BatchDraw(3, 2))
    assert not np.array_equal(other["genes"], together["genes"])


def test_a_cell_has_the_same_tokens_wherever_it_stands_in_the_file(make, screen, tmp_path, counts):
    from vcpipe.config.gears import Conversion
    from vcpipe.data.gears import convert
    from vcpipe.data.screen import open_screen

    generator = np.random.default_rng(5)
    cells, genes = generator.permutation(counts.n_obs), generator.permutation(counts.n_vars)
    counts[cells, genes].copy().write_h5ad(tmp_path / "permuted.h5ad")
    convert(tmp_path / "permuted.h5ad", "tiny", Conversion(), tmp_path / "other.h5ad")
    one = prepare(tmp_path / "one", screen)
    other = prepare(tmp_path / "two", open_screen(tmp_path / "other.h5ad"))
    assert one.names.vocabularies.digest == other.names.vocabularies.digest
    assert one.record.digest == other.record.digest
    for file in ("rna_0000.bin", "labels.arrow"):
        first, second = ((its.store.path / file).read_bytes() for its in (one, other))
        assert first == second


def test_undetected_genes_fill_the_asked_share_and_only_measured_ones(make, screen):
    extra = [f"OTHER{i}" for i in range(50)]
    batches = make(genes=[*screen.genes, *extra], max_genes=64, include_zero_genes=0.9)
    batch = made(batches, np.arange(20), BatchDraw(0, 0))
    names = np.array(batches.reader.store.feature_names("rna", "human"))
    shown = set(names[np.unique(batch["genes"][batch["real"]])]) - {"<cls>"}
    assert shown == set(screen.genes)
    assert (whole(batch)[batch["real"]] == 0).sum() > 20


def test_a_cell_that_is_drawn_again_is_another_example(make):
    batches = make()
    twice = np.array([4, 4])
    once = made(batches, twice, BatchDraw(0, 0))
    assert np.array_equal(once["chosen"][0], once["chosen"][1])
    batches.draws_repeat = True
    drawn = made(batches, twice, BatchDraw(0, 0))
    assert not np.array_equal(drawn["chosen"][0], drawn["chosen"][1])
    other = made(batches, twice, BatchDraw(0, 0, step=1))
    assert not np.array_equal(drawn["chosen"], other["chosen"])
    again = made(batches, twice, BatchDraw(0, 0))
    assert np.array_equal(drawn["chosen"], again["chosen"])
