"""scModelForge's masked autoencoder: the hidden values of a cell from an encoding of the others."""

from functools import partial

from vcpipe.config.pretrain import Pretrain
from vcpipe.data.gene_batches import ShownGeneBatches
from vcpipe.data.tokens.masking import hidden_values
from vcpipe.data.tokens.packing import Empty
from vcpipe.objectives.masked_autoencoder import masked_autoencoder as loss
from vcpipe.training.gene_models import masked_autoencoder as model_of
from vcpipe.training.learners.gene_tokens import genes_of
from vcpipe.training.learners.learner import Learner, PreparedCells


def masked_autoencoder(cells: PreparedCells, config: Pretrain, empty: Empty) -> Learner:
    genes = genes_of(cells, config)
    hiding = hidden_values([config.masked_autoencoder.mask_ratio])
    model = model_of(config, genes.tokens)
    if genes.vectors:
        genes.vectors.into(model.embedding.gene)
    return Learner(
        model=model,
        loss=loss,
        batches=partial(ShownGeneBatches, genes.special, genes.fitted, config, hiding, empty=empty),
        vocabulary=genes.vocabulary,
        args=genes.args(),
        data=genes.data(),
    )
