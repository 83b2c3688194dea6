"""Pretraining: a store of cells in, an encoder's folder out."""

from functools import partial
from pathlib import Path

import torch

from vcpipe.config.pretrain import Pretrain
from vcpipe.data.order import generator_of
from vcpipe.data.store import CellStore
from vcpipe.data.token_batches import TokenBatches, split_cells
from vcpipe.data.vocabulary import PAD, Vocabulary
from vcpipe.errors import InputError
from vcpipe.models.scgpt import MaskedValueModel
from vcpipe.objectives.masked_values import masked_values
from vcpipe.training.distributed import Process
from vcpipe.training.loop import Progress
from vcpipe.training.run import Run, num_weights

OBJECTIVES = {"masked_values": masked_values}


def pretrain(
    store: CellStore,
    vocabulary: Vocabulary,
    config: Pretrain,
    code: str,
    process: Process,
    state: Path,
    out: Path,
    metrics: Path,
) -> Progress:
    """Train an encoder on the cells of a store and write it as a folder."""
    if store.manifest["vocabulary_digest"] != vocabulary.digest:
        raise InputError(
            f"{store.path} was written with vocabulary {store.manifest['vocabulary_digest']}, but "
            f"the given one is {vocabulary.digest} ({len(vocabulary)} tokens). Rerun prepare_cells."
        )
    settings = config.masked_values
    torch.manual_seed(config.training.seed)
    model = MaskedValueModel(config.model, len(vocabulary), vocabulary.ids[PAD])
    train_cells, val_cells = split_cells(
        len(store), config.val_fraction, generator_of(config.training.seed, 5)
    )
    cells = TokenBatches(store, vocabulary, settings, train_cells)
    held_out = TokenBatches(store, vocabulary, settings, val_cells) if len(val_cells) else None
    data = {"data_digest": store.manifest["data_digest"], "seen": store.manifest["seen"]}
    run = Run(config, data, code, state, process)
    run.say(
        f"{len(train_cells)} cells, {len(val_cells)} for val_loss, {num_weights(model)} weights"
    )
    args = {
        "input_style": settings.input_style,
        "n_bins": store.manifest["cells"]["n_bins"],
        "max_seq_len": settings.max_seq_len,
        "mask_ratio": settings.mask_ratio,
        "mask_value": -1,
    }
    loss = partial(OBJECTIVES[config.objective], config=settings)
    return run.train_and_write(
        model, loss, cells, held_out, config.model, vocabulary, args, out, metrics
    )
