"""Models of a cell's genes from their settings, and from the folder that a run has written."""

from torch import nn

from vcpipe.config.pretrain import Pretrain
from vcpipe.errors import InputError, listed
from vcpipe.models.gene_tokens import GeneTokens
from vcpipe.models.masked_autoencoder import MaskedAutoencoderModel
from vcpipe.models.masked_genes import MaskedGeneModel
from vcpipe.models.next_genes import NextGeneModel
from vcpipe.training.checkpoints import ModelFolder


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


def read_gene_model(folder: ModelFolder) -> nn.Module:
    """The model of a folder with its weights, to embed cells with."""
    objective = folder.about.get("objective")
    if objective not in MODELS:
        raise InputError(f"{folder.path} is of {objective}; expected {' or '.join(MODELS)}.")
    config = Pretrain.model_validate(folder.about["config"])
    model = MODELS[objective](config, GeneTokens(**folder.args["tokens"]))
    found = model.load_state_dict(folder.state, strict=False)
    if found.missing_keys or found.unexpected_keys:
        raise InputError(
            f"{folder.path / 'best_model.pt'} lacks {listed(found.missing_keys) or 'nothing'} and "
            f"has {listed(found.unexpected_keys) or 'nothing'} beyond the model of its settings."
        )
    return model.eval()
