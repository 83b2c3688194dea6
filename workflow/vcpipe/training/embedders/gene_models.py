"""The cell embedding of models of a cell's genes: each says itself what it is."""

from vcpipe.config.eval import Embedding
from vcpipe.data.tokens.packing import specials
from vcpipe.errors import InputError
from vcpipe.models.gene_tokens import GeneTokens
from vcpipe.training.embedders.embedder import Embedder, PretrainedFolder
from vcpipe.training.embedders.whole_tokens import whole_tokens
from vcpipe.training.gene_models import MODELS


def gene_model(pretrained: PretrainedFolder, config: Embedding) -> Embedder:
    tokens = GeneTokens(**pretrained.folder.args["tokens"])
    if tokens.num_positions and (config.max_genes or 0) > tokens.num_positions:
        raise InputError(
            f"max_genes is {config.max_genes}, but {pretrained.path} has learned "
            f"{tokens.num_positions} places; expected at most so many, or null."
        )
    vocabulary = pretrained.folder.vocabulary
    special = specials(vocabulary.ids, pretrained.names.vocabularies.special_tokens)
    model = MODELS[pretrained.config.objective](pretrained.config, tokens)
    return Embedder(model, whole_tokens(pretrained, special, config))
