"""scGPT: the hidden values of a cell from the others."""

from functools import partial

from vcpipe.config.pretrain import Pretrain
from vcpipe.data.token_batches import TokenBatches
from vcpipe.data.tokens.fitted import fitted_of
from vcpipe.data.tokens.masking import hidden_values
from vcpipe.data.tokens.packing import Empty, specials
from vcpipe.models.scgpt import MaskedValueModel
from vcpipe.objectives.masked_values import masked_values as loss
from vcpipe.training.learners.learner import Learner, PreparedCells


def masked_values(cells: PreparedCells, config: Pretrain, empty: Empty) -> Learner:
    species, names = cells.only_species("masked_values"), cells.names.vocabularies
    vocabulary = names.genes[species]
    special = specials(vocabulary.ids, names.special_tokens)
    fitted = fitted_of(cells.record, species)
    hiding = hidden_values(config.masked_values.mask_ratio)
    tokenizer = config.tokenizer
    return Learner(
        model=MaskedValueModel(config.model, len(vocabulary), special.pad_id),
        loss=partial(loss, config=config.masked_values),
        batches=partial(TokenBatches, special, fitted, config, hiding, empty=empty),
        vocabulary=vocabulary,
        args={
            "input_style": "binned" if tokenizer.strategy == "binned_expression" else "log1p",
            "n_bins": tokenizer.n_bins,
            "max_seq_len": tokenizer.max_genes,
            "mask_ratio": config.masked_values.mask_ratio,
            "mask_value": int(special.mask_value),
            "pad_value": int(special.pad_value),
        },
    )
