"""Models of a cell's genes from the settings of their runs."""

from vcpipe.config.pretrain import Pretrain
from vcpipe.models.gene_tokens import GeneTokens
from vcpipe.models.masked_autoencoder import MaskedAutoencoderModel
from vcpipe.models.masked_genes import MaskedGeneModel
from vcpipe.models.next_genes import NextGeneModel


def masked_genes(config: Pretrain, tokens: GeneTokens) -> MaskedGeneModel:
    return MaskedGeneModel(config.model, tokens, config.masked_genes.pooling)


def next_genes(config: Pretrain, tokens: GeneTokens) -> NextGeneModel:
    settings = config.next_genes
    return NextGeneModel(
        *(config.model, tokens, settings.pooling),
        predicts_genes=settings.gene_loss_weight > 0,
        predicts_bins=settings.expression_loss_weight > 0,
    )


def masked_autoencoder(config: Pretrain, tokens: GeneTokens) -> MaskedAutoencoderModel:
    return MaskedAutoencoderModel(config.model, tokens, config.masked_autoencoder)


MODELS = {
    "masked_genes": masked_genes,
    "next_genes": next_genes,
    "masked_autoencoder": masked_autoencoder,
}
