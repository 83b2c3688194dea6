"""scModelForge's cell embeddings: the output at a summary token, or the mean over real tokens."""

from vcpipe.config.eval import Embedding
from vcpipe.data.tokens.packing import specials
from vcpipe.models.gene_tokens import GeneTokens
from vcpipe.training.embedders.embedder import Embedder, PretrainedFolder
from vcpipe.training.embedders.whole_tokens import whole_tokens
from vcpipe.training.gene_models import MODELS


def gene_tokens(pretrained: PretrainedFolder, config: Embedding) -> Embedder:
    folder, names = pretrained.folder, pretrained.names.vocabularies
    special = specials(folder.vocabulary.ids, names.special_tokens)
    model = MODELS[pretrained.config.objective](
        pretrained.config, GeneTokens(**folder.args["tokens"])
    )
    return Embedder(model, whole_tokens(pretrained, special, config))
