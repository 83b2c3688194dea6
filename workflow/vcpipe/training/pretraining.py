"""Pretraining: a store of cells in, an encoder's folder out."""

from functools import partial
from pathlib import Path

import torch

from vcpipe.config.pretrain import Pretrain
from vcpipe.data.cell_store.reading import CellStore
from vcpipe.data.corpus_names import Names
from vcpipe.data.loading.training_cells import readers
from vcpipe.data.preprocessing_record import PreprocessingRecord
from vcpipe.data.seen import together
from vcpipe.errors import InputError
from vcpipe.training.checkpoints import read_folder
from vcpipe.training.distributed import Process, empty_for, gathering
from vcpipe.training.learners.contrastive import contrastive
from vcpipe.training.learners.learner import PreparedCells
from vcpipe.training.learners.masked_autoencoder import masked_autoencoder
from vcpipe.training.learners.masked_genes import masked_genes
from vcpipe.training.learners.masked_values import masked_values
from vcpipe.training.learners.next_genes import next_genes
from vcpipe.training.learners.peaks_to_genes import peaks_to_genes
from vcpipe.training.pretrained import start_from
from vcpipe.training.progress import Progress
from vcpipe.training.run import Run, num_weights

LEARNERS = {
    "masked_values": masked_values,
    "masked_genes": masked_genes,
    "next_genes": next_genes,
    "masked_autoencoder": masked_autoencoder,
    "contrastive": contrastive,
    "peaks_to_genes": peaks_to_genes,
}


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
    torch.manual_seed(config.training.seed)
    learner = LEARNERS[config.objective](
        PreparedCells(store, names, record), config, empty_for(process)
    )
    learned, judged = readers(store, config.loading, config.val_fraction, learner.modality)
    cells = learner.batches(learned)
    held_out = learner.batches(judged) if len(judged) else None
    data = {
        "data_digest": store.manifest["data_digest"],
        "seen": store.manifest["about"]["seen"],
        "record_digest": record.digest,
        "names_digest": names.vocabularies.digest,
        **learner.data,
    }
    loss = learner.loss
    if learner.compares_cells:
        if 0 < len(judged) < process.world:
            raise InputError(
                f"val_loss is of {len(judged)} cells, which are compared, and there are "
                f"{process.world} processes; expected a cell for each. Ask for fewer GPUs, or keep "
                "more cells for val (val_fraction, cell_split)."
            )
        loss = partial(loss, gather=gathering(process))
    base = read_folder(Path(config.pretrained)) if config.pretrained else None
    if base:
        data["pretrained_digest"] = base.digest
        # What it starts from may have seen what a later split holds out.
        data["seen"] = together(base.about.get("seen", {}), data["seen"])
    run = Run(config, data, code, state, process)
    if base:
        for line in start_from(base, learner.model, learner.vocabulary, names, config).lines():
            run.say(line)
    weights = num_weights(learner.model)
    run.say(f"{len(learned)} cells, {len(judged)} for val_loss, {weights}")
    for note in learner.notes:
        run.say(note)
    return run.train_and_write(
        *(learner.model, loss, cells, held_out, config.model, learner.vocabulary),
        *(learner.args, out, metrics, record, names),
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
