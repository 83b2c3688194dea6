"""What models of a cell's genes are built with: tokens, special ones apart, and gene vectors."""

from dataclasses import asdict, dataclass

import numpy as np
import torch

from vcpipe.config.corpora import BINNED
from vcpipe.config.pretrain import Pretrain
from vcpipe.config.tokens import Tokenizer
from vcpipe.data.gene_embeddings import read_aligned
from vcpipe.data.tokens.fitted import Fitted, fitted_of
from vcpipe.data.tokens.gene_embedding import check_embedding_dim
from vcpipe.data.tokens.packing import Specials, specials
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError
from vcpipe.models.gene_tokens import GeneEmbedding, GeneTokens
from vcpipe.training.checkpoints import hash_tensor
from vcpipe.training.learners.learner import PreparedCells


@dataclass(frozen=True)
class GeneVectors:
    """Pretrained vectors [V, W] of a vocabulary's tokens, and which of them are some."""

    vectors: np.ndarray
    found: np.ndarray

    @property
    def digest(self) -> str:
        return hash_tensor(torch.from_numpy(self.vectors))

    def into(self, embedding: GeneEmbedding) -> None:
        embedding.begin_with(torch.from_numpy(self.vectors), torch.from_numpy(self.found))


@dataclass(frozen=True)
class Genes:
    """The genes of the one species of a corpus, as a run reads them."""

    vocabulary: Vocabulary
    special: Specials
    fitted: Fitted
    gene_ids: np.ndarray  # those that are no special tokens
    vectors: GeneVectors | None
    tokens: GeneTokens

    def args(self) -> dict:
        """What the model was told of its tokens, for args.json."""
        return {"tokens": asdict(self.tokens)}

    def data(self) -> dict:
        """What shapes the run beside its store and its names."""
        return {"gene_vectors_digest": self.vectors.digest} if self.vectors else {}


def genes_of(
    cells: PreparedCells,
    config: Pretrain,
    uses_values: bool = True,
    position_embedding: str = "none",
) -> Genes:
    species, names = cells.only_species(config.objective), cells.names.vocabularies
    vocabulary, tokenizer = names.genes[species], config.tokenizer
    special = specials(vocabulary.ids, names.special_tokens)
    gene_ids = vocabulary.encode(names.features(vocabulary))
    special_ids = sorted(set(range(len(vocabulary))) - set(gene_ids.tolist()))
    vectors = gene_vectors(cells, species, tokenizer)
    if position_embedding == "auto":
        position_embedding = "learned" if tokenizer.strategy == "rank_value" else "none"
    tokens = GeneTokens(
        num_tokens=len(vocabulary),
        pad_id=special.pad_id,
        special_ids=tuple(special_ids),
        mask_value=special.mask_value,
        num_bins=tokenizer.n_bins if tokenizer.strategy in BINNED else None,
        num_positions=tokenizer.max_genes if position_embedding == "learned" else 0,
        uses_values=uses_values,
        vector_width=vectors.vectors.shape[1] if vectors else None,
    )
    fitted = fitted_of(cells.record, species)
    return Genes(vocabulary, special, fitted, gene_ids, vectors, tokens)


def gene_vectors(cells: PreparedCells, species: str, tokenizer: Tokenizer) -> GeneVectors | None:
    """Those that build_vocabulary laid beside the names, for the strategy that begins with them."""
    if tokenizer.strategy != "gene_embedding":
        return None
    folder = cells.names.embeddings
    if folder is None or not (folder / f"{species}.safetensors").exists():
        raise InputError(
            "tokenizer.strategy is gene_embedding, but the vocabulary has no vectors for genes of "
            f"{species}. Name their file in preprocess vocabulary.gene_embeddings.{species}, or "
            "set tokenizer.strategy to continuous_projection."
        )
    path = folder / f"{species}.safetensors"
    vectors, found = read_aligned(path, cells.names.vocabularies.genes[species])
    check_embedding_dim(tokenizer.embedding_dim, vectors.shape[1], path)
    return GeneVectors(vectors, found)
