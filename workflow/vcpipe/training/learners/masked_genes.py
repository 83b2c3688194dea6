"""scModelForge's transformer encoder: the hidden genes of a cell from the others."""

from functools import partial

from vcpipe.config.pretrain import Pretrain
from vcpipe.data.token_batches import TokenBatches
from vcpipe.data.tokens.masking import hidden_genes
from vcpipe.data.tokens.packing import Empty
from vcpipe.objectives.masked_genes import masked_genes as loss
from vcpipe.training.gene_models import masked_genes as model_of
from vcpipe.training.learners.gene_tokens import genes_of
from vcpipe.training.learners.learner import Learner, PreparedCells


def masked_genes(cells: PreparedCells, config: Pretrain, empty: Empty) -> Learner:
    settings = config.masked_genes
    genes = genes_of(cells, config, settings.use_expression_values, settings.position_embedding)
    hiding = hidden_genes(config.tokenizer.masking, genes.special, genes.gene_ids)
    model = model_of(config, genes.tokens)
    if genes.vectors:
        genes.vectors.into(model.embedding.gene)
    return Learner(
        model=model,
        loss=loss,
        batches=partial(TokenBatches, genes.special, genes.fitted, config, hiding, empty=empty),
        vocabulary=genes.vocabulary,
        args=genes.args(),
        data=genes.data(),
    )
