"""Pretraining on peaks and genes of the same cells."""

import csv

import pytest
import torch

from tests.data.cell_store.memory_source import source_of, stored, vocabularies_of
from tests.paired import NUM_CELLS, prepare_pairs
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.order import BatchDraw
from vcpipe.errors import InputError
from vcpipe.training.checkpoints import read_folder
from vcpipe.training.distributed import Process, empty_for, to_device
from vcpipe.training.learners.learner import PreparedCells
from vcpipe.training.learners.peaks_to_genes import model_of, peaks_to_genes
from vcpipe.training.pretraining import pretrain

ALONE = Process(0, 1, torch.device("cpu"))


def config_of(tokenizer=None, training=None, **settings) -> Pretrain:
    return Pretrain(
        corpus="c",
        objective="peaks_to_genes",
        peaks_to_genes=settings,
        tokenizer={"strategy": "paired_peaks", "n_bins": 2} | (tokenizer or {}),
        model={"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 16, "dropout": 0.0},
        val_fraction=0.2,
        optimizer={"lr": 1e-2},
        scheduler={"name": "constant"},
        training={"batch_size": 8, "max_epochs": 2} | (training or {}),
    )


def run(prepared, config, folder):
    return pretrain(
        *prepared, config, "code", ALONE, folder / "state", folder / "out", folder / "m.csv"
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare_pairs(
        tmp_path_factory.mktemp("pairs") / "corpus", num_hvgs=6, group_by=["cell_type"]
    )


def test_expression_of_cells_that_were_not_seen_is_learned_from_their_peaks(prepared, tmp_path):
    config = config_of(
        use_batch_labels=True,
        task_weight={"cell_type": 1.0},
        tokenizer={"rna_sampling": "full"},
        training={"max_epochs": 6},
    )
    run(prepared, config, tmp_path)
    with (tmp_path / "m.csv").open() as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file) if row["val_loss"]]
    # Three types, whose genes the encoder must tell by their peaks.
    assert losses[0] > 1.2
    assert min(losses) < 1.1


def test_a_folder_reads_back_and_gives_the_same_cell_vectors(prepared, tmp_path):
    config = config_of(encoder="performer", input_norm="batch", value_head="zero_inflated")
    run(prepared, config, tmp_path)
    folder = read_folder(tmp_path / "out")
    assert folder.about["objective"] == "peaks_to_genes"
    assert folder.model == config.model
    assert folder.args["mvc_decoder_style"] == "concat query"

    learner = peaks_to_genes(PreparedCells(*prepared), config, empty_for(ALONE))
    learner.model.load_state_dict(folder.state)
    names = prepared.names.vocabularies
    again = model_of(names, "human", config, folder.state["genes"].numpy())
    again.load_state_dict(folder.state)
    batches = learner.batches(StoreReader(prepared.store))
    assert folder.vocabulary == names.genes["human"]
    made = batches.batch(batches.reader.read(torch.arange(9).numpy()), torch.arange(9).numpy(),
                         BatchDraw(0, 0))  # fmt: skip
    batch = to_device(made, ALONE)
    first, second = (model.eval().embed(batch) for model in (learner.model, again))
    assert first.shape == (9, 16)
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("tokenizer", "loading", "settings"),
    [
        (
            {"rna_sampling": "hvg"},
            {"strategy": "within_group"},
            {"mvc_arch_style": "gene-specific concat query", "value_head": "regression"},
        ),
        (
            {"rna_max_len": 6, "atac_max_len": 8, "n_bins": 5},
            {"strategy": "block_weighted", "weight_by": ["batch"]},
            {"mvc_arch_style": "inner product", "cell_emb_style": "mean"},
        ),
    ],
)
def test_other_samplings_orders_and_decoders_train(
    prepared, tmp_path, tokenizer, loading, settings
):
    config = config_of(tokenizer=tokenizer, training={"max_epochs": 1}, **settings)
    config = config.model_copy(update={"loading": type(config.loading)(**loading)})
    run(prepared, config, tmp_path)
    genes = read_folder(tmp_path / "out").state["genes"]
    assert len(genes) == (6 if "rna_sampling" in tokenizer else 24)


def test_a_store_without_peaks_is_refused(prepared, tmp_path, generator):
    store = stored(
        tmp_path / "genes",
        [source_of("one", {"rna": generator.poisson(1.0, (NUM_CELLS, 9))})],
        vocabularies_of(rna=9),
    )
    with pytest.raises(InputError, match="holds rna only; peaks_to_genes learns from peaks and"):
        peaks_to_genes(PreparedCells(store, *prepared[1:]), config_of(), empty_for(ALONE))
