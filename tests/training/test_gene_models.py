"""scModelForge's architectures, from a store to a folder that reads back and embeds cells."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.prepared import prepare
from vcpipe.config.eval import Embedding
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.gene_embeddings import write_aligned
from vcpipe.errors import InputError
from vcpipe.models.gene_tokens import GeneTokens
from vcpipe.training.checkpoints import read_folder
from vcpipe.training.distributed import Process
from vcpipe.training.embedders.embedder import Measured, read_pretrained
from vcpipe.training.embedding import EMBEDDERS
from vcpipe.training.gene_models import MODELS
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


def run(prepared, config, tmp_path, name="model"):
    pretrain(
        *(*prepared, config, "code", ALONE),
        *(tmp_path / "state", tmp_path / name, tmp_path / "metrics.csv"),
    )
    return read_folder(tmp_path / name)


def embeddings_of(prepared, folder) -> torch.Tensor:
    """Of six cells, from the folder alone."""
    pretrained = read_pretrained(folder.path)
    embedder = EMBEDDERS[pretrained.config.objective](pretrained, Embedding())
    embedder.model.load_state_dict(folder.state)
    measured = Measured("human", prepared.store.measured["rna"]["tiny"])
    arrays = embedder.whole_cells(measured)(prepared.store.rows(np.arange(6)))
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with torch.inference_mode():
        return embedder.model.eval().embed(batch)


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
    embeddings = embeddings_of(prepared, folder)
    assert embeddings.shape == (6, 16)
    assert len(torch.unique(embeddings, dim=0)) == 6


def test_special_tokens_are_told_apart_from_genes(prepared, tmp_path):
    folder = run(prepared, config_of("masked_genes", BINS), tmp_path)
    names = prepared.names.vocabularies.genes["human"].names()
    special = [names[number] for number in folder.args["tokens"]["special_ids"]]
    assert set(special) == {"<cls>", "<pad>", "<mask>", "<eoc>"}


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
    assert embeddings_of(prepared, folder).shape == (6, 16)


def test_vectors_that_are_missing_or_of_another_width_are_refused(prepared, with_vectors, tmp_path):
    with pytest.raises(InputError, match="has no vectors for genes of human"):
        run(prepared, config_of("masked_genes", VECTORS), tmp_path)
    prepared, *_ = with_vectors(6)
    with pytest.raises(InputError, match=r"embedding_dim is 8 and .* has vectors of 6"):
        run(prepared, config_of("masked_genes", VECTORS | {"embedding_dim": 8}), tmp_path)


def test_a_cell_has_no_more_tokens_than_places_were_learned(prepared, tmp_path):
    folder = run(prepared, config_of("masked_genes", RANKS), tmp_path)
    with pytest.raises(InputError, match=r"max_genes is 25, but .* has learned 24 places"):
        EMBEDDERS["masked_genes"](read_pretrained(folder.path), Embedding(max_genes=25))


# Vocabularies of one's own may lack <mask>, without which no gene can be hidden.
@pytest.mark.parametrize("objective", ["next_genes", "masked_autoencoder"])
def test_a_run_starts_from_the_genes_that_a_folder_knows(objective, screen, prepared, tmp_path):
    config = config_of(objective, BINS)
    base = run(prepared, config, tmp_path)
    genes = [*reversed(screen.genes[5:]), "OTHER"]
    other = prepare(tmp_path / "other", screen, genes=genes)
    settings = {
        "pretrained": str(base.path),
        "pretrained_vocabulary": "remap",
        "optimizer": config.optimizer.model_copy(update={"lr": 1e-12}),
    }
    made = run(other, config.model_copy(update=settings), tmp_path, "next")
    mine, theirs = (its.vocabulary.ids for its in (made, base))
    for name in MODELS[objective](config, GeneTokens(**made.args["tokens"])).gene_tables:
        for gene in screen.genes[5:]:
            torch.testing.assert_close(made.state[name][mine[gene]], base.state[name][theirs[gene]])
