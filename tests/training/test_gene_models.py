"""scModelForge's architectures, from a store to a folder that reads back and embeds cells."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.prepared import prepare
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.cell_store.cells import cells_of
from vcpipe.data.draws import Draw
from vcpipe.data.gene_embeddings import write_aligned
from vcpipe.data.tokens.collate import collate
from vcpipe.data.tokens.fitted import fitted_of
from vcpipe.data.tokens.packing import specials
from vcpipe.data.tokens.tokenize import recipe_of
from vcpipe.errors import InputError
from vcpipe.training.checkpoints import read_folder
from vcpipe.training.distributed import Process
from vcpipe.training.gene_models import read_gene_model
from vcpipe.training.pretraining import pretrain

ALONE = Process(0, 1, torch.device("cpu"))
BINS = {"strategy": "binned_expression", "max_genes": 24, "n_bins": 11}
RANKS = {"strategy": "rank_value", "max_genes": 24}
VECTORS = {"strategy": "gene_embedding", "max_genes": 24}


def config_of(objective: str, tokenizer: dict, **settings) -> Pretrain:
    return Pretrain(
        corpus="c",
        objective=objective,
        **{objective: settings},
        tokenizer=tokenizer,
        model={"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 16, "dropout": 0.1},
        val_fraction=0.1,
        training={"batch_size": 32, "max_epochs": 1},
    )


@pytest.fixture
def prepared(screen, tmp_path):
    return prepare(tmp_path / "corpus", screen)


@pytest.fixture
def with_vectors(prepared, tmp_path):
    """Vectors of every second token, beside the names."""

    def of_width(width: int):
        vocabulary = prepared.names.vocabularies.genes["human"]
        found = np.arange(len(vocabulary)) % 2 == 0
        vectors = np.random.default_rng(0).normal(size=(len(vocabulary), width))
        vectors = np.where(found[:, None], vectors, 0).astype(np.float32)
        path = tmp_path / "embeddings" / "human.safetensors"
        write_aligned(path, vectors, found, vocabulary.digest)
        names = replace(prepared.names, embeddings=path.parent)
        return prepared._replace(names=names), vectors, found

    return of_width


def run(prepared, config, tmp_path):
    pretrain(
        *(*prepared, config, "code", ALONE),
        *(tmp_path / "state", tmp_path / "model", tmp_path / "metrics.csv"),
    )
    return read_folder(tmp_path / "model")


def tokens_of(prepared, config) -> dict[str, torch.Tensor]:
    """Whole cells, as they are embedded."""
    vocabulary = prepared.names.vocabularies.genes["human"]
    special = specials(vocabulary.ids, prepared.names.vocabularies.special_tokens)
    rows = prepared.store.rows(np.arange(6))
    recipe = recipe_of(config.tokenizer, fitted_of(prepared.record, "human"))
    made = collate(
        *(cells_of(rows), np.arange(6), rows.keys, recipe, special, Draw(0, 0)), is_padded=True
    )
    return {name: torch.from_numpy(array) for name, array in made.padded().items()}


@pytest.mark.parametrize(
    "config",
    [
        config_of("masked_genes", RANKS),
        config_of("masked_genes", BINS, pooling="mean"),
        config_of("next_genes", BINS),
        config_of("next_genes", RANKS, expression_loss_weight=0, position_embedding="learned"),
        config_of("masked_autoencoder", BINS | {"strategy": "continuous_projection", "n_bins": 51}),
    ],
    ids=lambda config: f"{config.objective}-{config.tokenizer.strategy}",
)
def test_a_run_writes_a_folder_whose_model_embeds_cells(prepared, config, tmp_path):
    folder = run(prepared, config, tmp_path)
    assert folder.about["objective"] == config.objective
    assert np.isfinite(folder.about["best_loss"])
    model = read_gene_model(folder)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, folder.state[name])
    with torch.inference_mode():
        embeddings = model.embed(tokens_of(prepared, config))
    assert embeddings.shape == (6, 16)
    assert len(torch.unique(embeddings, dim=0)) == 6


def test_special_tokens_are_told_apart_from_genes(prepared, tmp_path):
    folder = run(prepared, config_of("masked_genes", BINS), tmp_path)
    never = torch.isinf(folder.state["gene_head.only_genes_V"])
    names = np.array(prepared.names.vocabularies.genes["human"].names())[never.numpy()]
    assert set(names) == {"<cls>", "<pad>", "<mask>", "<eoc>"}


@pytest.mark.parametrize("width", [16, 6])
@pytest.mark.parametrize("objective", ["masked_genes", "masked_autoencoder"])
def test_a_run_begins_with_pretrained_vectors(objective, width, with_vectors, tmp_path):
    prepared, vectors, found = with_vectors(width)
    config = config_of(objective, VECTORS | {"embedding_dim": width})
    slow = config.optimizer.model_copy(update={"lr": 1e-12})
    folder = run(prepared, config.model_copy(update={"optimizer": slow}), tmp_path)
    weight = folder.state["embedding.gene.embedding.weight"].numpy()
    pad = prepared.names.vocabularies.genes["human"].ids["<pad>"]
    learned = found & (np.arange(len(found)) != pad)
    assert np.allclose(weight[learned], vectors[learned], atol=1e-6)
    assert "gene_vectors_digest" in folder.about
    assert read_gene_model(folder).embed(tokens_of(prepared, config)).shape == (6, 16)


def test_vectors_that_are_missing_or_of_another_width_are_refused(prepared, with_vectors, tmp_path):
    with pytest.raises(InputError, match="has no vectors for genes of human"):
        run(prepared, config_of("masked_genes", VECTORS), tmp_path)
    prepared, *_ = with_vectors(6)
    with pytest.raises(InputError, match=r"embedding_dim is 8 and .* has vectors of 6"):
        run(prepared, config_of("masked_genes", VECTORS | {"embedding_dim": 8}), tmp_path)


def test_a_folder_of_another_objective_is_no_model_of_genes(prepared, tmp_path):
    folder = run(prepared, config_of("masked_autoencoder", BINS), tmp_path)
    about = folder.about | {"objective": "masked_values"}
    with pytest.raises(InputError, match="is of masked_values; expected masked_genes or"):
        read_gene_model(replace(folder, args=folder.args | {"vcpipe": about}))
    del folder.state["query.bias"]
    with pytest.raises(InputError, match=r"lacks query\.bias and has nothing beyond"):
        read_gene_model(folder)
