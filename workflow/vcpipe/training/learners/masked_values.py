"""scGPT: the hidden values of a cell from the others."""

from functools import partial

from vcpipe.config.pretrain import Pretrain
from vcpipe.data.label_numbers import LabelNumbers
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.token_batches import TokenBatches
from vcpipe.data.tokens.fitted import Fitted, fitted_of
from vcpipe.data.tokens.masking import hidden_values
from vcpipe.data.tokens.packing import Empty, Specials, specials
from vcpipe.data.vocabularies import Vocabularies
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError
from vcpipe.models.scgpt import MaskedValueModel
from vcpipe.objectives.masked_values import masked_values as loss
from vcpipe.training.learners.learner import Learner, PreparedCells


def masked_values(cells: PreparedCells, config: Pretrain, empty: Empty) -> Learner:
    species, names = cells.only_species("masked_values"), cells.names.vocabularies
    vocabulary = names.genes[species]
    special = specials(vocabulary.ids, names.special_tokens)
    tokenizer, objective = config.tokenizer, config.masked_values
    classes = label_classes(names, config)
    return Learner(
        model=model_of(vocabulary, special, config, classes),
        loss=partial(loss, config=objective),
        batches=partial(batches, special, fitted_of(cells.record, species), config, classes, empty),
        vocabulary=vocabulary,
        args={
            "input_style": "binned" if tokenizer.strategy == "binned_expression" else "log1p",
            "n_bins": tokenizer.n_bins,
            "max_seq_len": tokenizer.max_genes,
            "mask_ratio": objective.mask_ratio,
            "mask_value": int(special.mask_value),
            "pad_value": int(special.pad_value),
            "training_tasks": "gen" if objective.attention == "generative" else "pcpt",
            "MVC": objective.mvc_weight > 0,
            "no_cls": objective.cls_weight == 0,
            "no_cce": objective.cce_weight == 0,
        },
        compares_cells=objective.of_batches(),
    )


def model_of(
    vocabulary: Vocabulary, special: Specials, config: Pretrain, classes: dict[str, Vocabulary]
) -> MaskedValueModel:
    """The model with new weights."""
    return MaskedValueModel(
        *(config.model, len(vocabulary), special.pad_id, config.masked_values),
        num_batches=len(classes.get("batch", ())),
        num_cell_types=len(classes.get("cell_type", ())),
        bins=bins_of(config, special),
    )


def batches(
    special: Specials,
    fitted: Fitted,
    config: Pretrain,
    classes: dict[str, Vocabulary],
    empty: Empty,
    reader: StoreReader,
) -> TokenBatches:
    objective = config.masked_values
    return TokenBatches(
        *(special, fitted, config, hidden_values(objective.mask_ratio), reader, empty),
        hidden_last=objective.attention == "generative",
        labels={column: LabelNumbers(reader.store, column, its) for column, its in classes.items()},
    )


def label_classes(names: Vocabularies, config: Pretrain) -> dict[str, Vocabulary]:
    """The labels that are learned, by the store's column."""
    asked = {
        "batch": ("dar_weight", names.batches),
        "cell_type": ("cls_weight", names.cell_types),
    }
    found = {}
    for column, (setting, its) in asked.items():
        if not getattr(config.masked_values, setting):
            continue
        if len(its) < 2:
            raise InputError(
                f"masked_values.{setting} is {getattr(config.masked_values, setting)}, and the "
                f"corpus knows {len(its)} {column}; expected two or more to tell apart. Set "
                f"{setting} to 0, or {column}_key of its atlases."
            )
        found[column] = its
    return found


def bins_of(config: Pretrain, special: Specials) -> range | None:
    """All values of tokens, where they are bins."""
    if config.tokenizer.strategy != "binned_expression":
        return None
    others = int(special.cls_value), int(special.mask_value)
    return range(min(0, *others), max(config.tokenizer.n_bins - 1, *others) + 1)
