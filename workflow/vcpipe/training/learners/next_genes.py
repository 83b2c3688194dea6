"""scModelForge's autoregressive transformer: the next gene of a cell, and its bin."""

from functools import partial

from vcpipe.config.pretrain import Pretrain
from vcpipe.data.gene_batches import NextGeneBatches
from vcpipe.data.tokens.masking import NOTHING
from vcpipe.data.tokens.packing import Empty
from vcpipe.objectives.next_genes import next_genes as loss
from vcpipe.training.gene_models import next_genes as model_of
from vcpipe.training.learners.gene_tokens import genes_of
from vcpipe.training.learners.learner import Learner, PreparedCells


def next_genes(cells: PreparedCells, config: Pretrain, empty: Empty) -> Learner:
    settings = config.next_genes
    genes = genes_of(cells, config, settings.use_expression_values, settings.position_embedding)
    return Learner(
        model=model_of(config, genes.tokens),
        loss=partial(loss, config=settings),
        batches=partial(NextGeneBatches, genes.special, genes.fitted, config, NOTHING, empty=empty),
        vocabulary=genes.vocabulary,
        args=genes.args(),
    )
