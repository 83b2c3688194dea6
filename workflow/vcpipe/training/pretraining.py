"""Pretraining: a store of cells in, an encoder's folder out."""

from functools import partial
from pathlib import Path

import torch

from vcpipe.config.pretrain import Pretrain
from vcpipe.data.cell_store.reading import CellStore
from vcpipe.data.fitted_corpus import Names
from vcpipe.data.loading.training_cells import readers
from vcpipe.data.preprocessing_record import PreprocessingRecord
from vcpipe.data.token_batches import TokenBatches
from vcpipe.data.tokens.fitted import fitted_of
from vcpipe.data.tokens.packing import specials
from vcpipe.errors import InputError, listed
from vcpipe.models.scgpt import MaskedValueModel
from vcpipe.objectives.masked_values import masked_values
from vcpipe.training.distributed import Process, empty_for
from vcpipe.training.loop import Progress
from vcpipe.training.run import Run, num_weights

OBJECTIVES = {"masked_values": masked_values}


def pretrain(
    store: CellStore,
    names: Names,
    record: PreprocessingRecord,
    config: Pretrain,
    code: str,
    process: Process,
    state: Path,
    out: Path,
    metrics: Path,
    threads: int = 1,
) -> Progress:
    """Train an encoder on the cells of a store and write it as a folder."""
    check_same_corpus(store, names, record)
    species = only_species(store)
    vocabulary = names.vocabularies.genes[species]
    special = specials(vocabulary.ids, names.vocabularies.special_tokens)
    torch.manual_seed(config.training.seed)
    model = MaskedValueModel(config.model, len(vocabulary), special.pad_id)
    make = partial(
        TokenBatches, special, fitted_of(record, species), config, empty=empty_for(process)
    )
    learned, judged = readers(store, config.loading, config.val_fraction)
    cells, held_out = make(learned), make(judged) if len(judged) else None
    about = store.manifest["about"]
    data = {
        "data_digest": store.manifest["data_digest"],
        "seen": about["seen"],
        "record_digest": record.digest,
    }
    run = Run(config, data, code, state, process)
    run.say(f"{len(learned)} cells, {len(judged)} for val_loss, {num_weights(model)} weights")
    tokenizer = config.tokenizer
    args = {
        "input_style": "binned" if tokenizer.strategy == "binned_expression" else "log1p",
        "n_bins": tokenizer.n_bins,
        "max_seq_len": tokenizer.max_genes,
        "mask_ratio": config.masked_values.mask_ratio,
        "mask_value": int(special.mask_value),
        "pad_value": int(special.pad_value),
    }
    loss = partial(OBJECTIVES[config.objective], config=config.masked_values)
    return run.train_and_write(
        *(model, loss, cells, held_out, config.model, vocabulary, args, out, metrics, record),
        threads=threads,
    )


def check_same_corpus(store: CellStore, names: Names, record: PreprocessingRecord) -> None:
    """Refuse names or fitted numbers that are not those that the store was written with."""
    about = store.manifest["about"]
    for what, rule, digest in (
        ("vocabulary", "build_vocabulary", names.vocabularies.digest),
        ("record", "fit_preprocessing", record.digest),
    ):
        if about[f"{what}_digest"] != digest:
            raise InputError(
                f"{store.path} was written with the {what} {about[f'{what}_digest']}, but the "
                f"given one is {digest} (of {rule}). Rerun prepare_cells, or give its own."
            )


def only_species(store: CellStore) -> str:
    """scGPT's encoder has one table of genes."""
    if "rna" not in store.modalities:
        raise InputError(
            f"{store.path} holds {listed(store.modalities)} only; masked_values learns from genes. "
            "Give its atlases rna."
        )
    species = sorted(store.manifest["modalities"]["rna"]["vocabulary_digests"])
    if len(species) > 1:
        raise InputError(
            f"{store.path} has genes of {listed(species)}, each with ids of its own; masked_values "
            "learns one table of genes. Name orthologs, or make a corpus of each."
        )
    return species[0]
