import numpy as np
import pytest

from tests.paired import GENES, NUM_CELLS, PEAKS, prepare_pairs
from vcpipe.config.loading import Loading
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.loading.loader import Loader
from vcpipe.data.loading.plans import Share
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.order import BatchDraw
from vcpipe.data.paired_batches import PairedBatches, asked_genes, chromosomes_of
from vcpipe.data.tokens.fitted import fitted_of
from vcpipe.data.tokens.packing import specials

SECOND = slice(NUM_CELLS // 2, None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare_pairs(tmp_path_factory.mktemp("pairs") / "corpus")


@pytest.fixture
def make(prepared):
    store, given, record = prepared
    names = given.vocabularies

    def make(hvgs=None, strategy="random_sampling", **tokenizer) -> PairedBatches:
        settings = {"strategy": "paired_peaks", "n_bins": 4, "rna_max_len": 12} | tokenizer
        loading = {"strategy": strategy} | (
            {"weight_by": ["dataset"]} if "weighted" in strategy else {}
        )
        config = Pretrain(corpus="c", tokenizer=settings, loading=loading)
        return PairedBatches(
            specials(names.peaks.ids, names.special_tokens),
            fitted_of(record, "human"),
            names,
            chromosomes_of(names, "human"),
            asked_genes(store, config.tokenizer, hvgs),
            config,
            StoreReader(store),
        )

    return make


def made(batches, cells, draw=None) -> dict[str, np.ndarray]:
    cells = np.asarray(cells)
    buffer = batches.reader.read(cells)
    return batches.batch(buffer, np.arange(len(cells)), draw or BatchDraw(0, 0))


def shown(store, modality, names, position) -> dict[str, int]:
    rows = store.rows([position], modality)
    return {names[number]: int(its) for number, its in zip(rows.ids, rows.counts, strict=True)}


def test_a_cell_is_cls_and_its_open_peaks_with_their_chromosomes(make, prepared):
    names = prepared.names.vocabularies
    peaks, places = names.peaks.names(), names.chromosomes.names()
    batch = made(make(), range(8))
    for cell in range(8):
        real = batch["real"][cell]
        tokens = [peaks[number] for number in batch["peaks"][cell, real]]
        its = shown(prepared.store, "atac", peaks, cell)
        assert tokens[0] == "<cls>"
        assert set(tokens[1:]) == set(its)
        where = [places[number] for number in batch["peak_chromosomes"][cell, real]]
        assert where == ["<cls>", *(peak.split(":")[0] for peak in tokens[1:])]
        assert {peaks[number] for number in batch["peaks"][cell, ~real]} <= {"<pad>"}


def test_values_are_those_of_the_cells_genes_and_zero_of_others(make, prepared):
    names = prepared.names.vocabularies.genes["human"].names()
    batches = make(rna_sampling="full", binning_method="binary")
    batch = made(batches, range(NUM_CELLS))
    asked = batches.asked.genes
    for cell in range(NUM_CELLS):
        its = batch["cell"] == cell
        genes = [names[asked[place]] for place in batch["gene"][its]]
        detected = {g for g, v in zip(genes, batch["targets"][its], strict=True) if v}
        assert detected == set(shown(prepared.store, "rna", names, cell)) & set(genes)


def test_genes_that_a_dataset_did_not_measure_are_not_asked_of_its_cells(make, prepared):
    datasets = np.array(prepared.store.labels(None, ["dataset"])["dataset"].to_pylist())
    for sampling in ("balanced", "full"):
        batches = make(rna_sampling=sampling)
        batch = made(batches, range(NUM_CELLS))
        names = np.array(prepared.names.vocabularies.genes["human"].names())
        genes = names[batches.asked.genes[batch["gene"]]]
        of_second = datasets[batch["cell"]] == "two"
        assert not set(genes[of_second]) & set(GENES[-4:])
        assert set(genes[~of_second]) & set(GENES[-4:])


def test_highly_variable_genes_alone_may_be_asked_for(make, prepared):
    hvgs = prepared.names.vocabularies.genes["human"].encode(GENES[5:8])
    batches = make(rna_sampling="hvg", hvgs=hvgs)
    assert sorted(batches.asked.genes) == sorted(hvgs)
    assert np.bincount(made(batches, range(5))["cell"]).tolist() == [3] * 5


def test_labels_are_numbers_of_the_vocabulary_and_minus_one_where_there_is_none(make, prepared):
    names = prepared.names.vocabularies
    batch = made(make(), range(NUM_CELLS))
    table = prepared.store.labels(np.arange(NUM_CELLS)).to_pydict()
    for key, known in (("batch", names.batches), ("cell_type", names.cell_types)):
        expected = [known.ids.get(name, -1) for name in table[key]]
        assert batch[key].tolist() == expected
    assert (batch["cell_type"] == -1).sum() == 5


def test_unknown_chromosomes_have_a_number_of_their_own(prepared):
    names = prepared.names.vocabularies
    its = chromosomes_of(names, "human")
    assert its.of_genes[names.genes["human"].ids[GENES[2]]] == len(names.chromosomes)
    known = its.of_genes[names.genes["human"].ids[GENES[3]]]
    assert names.chromosomes.names()[known] == "chr1"
    assert its.of_peaks.max() < len(names.chromosomes)
    assert len(its.of_peaks) == len(names.peaks) > len(PEAKS)


def test_what_is_drawn_of_a_cell_depends_on_seed_epoch_and_cell_alone(make):
    batches = make(atac_max_len=9)
    together = made(batches, range(6), BatchDraw(3, 1, step=0, rank=0))
    for cell in range(6):
        alone = made(batches, [cell], BatchDraw(3, 1, step=9, rank=4))
        its = together["cell"] == cell
        for key in ("gene", "targets"):
            assert np.array_equal(alone[key], together[key][its])
        width = alone["peaks"].shape[1]
        assert np.array_equal(alone["peaks"][0], together["peaks"][cell][:width])
    other = made(batches, range(6), BatchDraw(3, 2))
    assert not np.array_equal(other["peaks"], together["peaks"])


def test_a_cell_that_is_drawn_again_is_asked_for_other_genes(make):
    batches = make(strategy="true_weighted")
    batch = made(batches, [4, 4])
    first, second = (batch["gene"][batch["cell"] == cell] for cell in range(2))
    assert not np.array_equal(first, second)


def test_every_batch_of_an_epoch_is_made_also_where_it_lies_in_two_buffers(make):
    batches = make(rna_sampling="full")
    loader = Loader(batches, Loading(fetch_factor=3), Share(0, 1, 10, 3), seed=0, threads=2)
    num_peaks = sorted(int(its) for batch in loader.steps(epoch=0) for its in batch["real"].sum(1))
    expected = made(batches, range(NUM_CELLS))["real"].sum(1)
    assert num_peaks == sorted(expected.tolist())


def test_arrays_lie_where_they_are_asked_to(make):
    batches, asked = make(), []

    def empty(shape, dtype):
        asked.append(np.empty(shape, dtype))
        return asked[-1]

    plain = made(batches, range(5))
    batches.empty = empty
    there = made(batches, range(5))
    for name, array in there.items():
        assert any(array is its for its in asked)
        assert np.array_equal(array, plain[name])
