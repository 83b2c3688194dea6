"""The two kinds of runs: pretraining on a store, finetuning on a screen. Both end as a folder."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vcpipe.config.finetune import Finetune
from vcpipe.config.pretrain import Pretrain
from vcpipe.config.section import Section
from vcpipe.data.order import generator_of
from vcpipe.data.perturbation_batches import PerturbationBatches, known_genes
from vcpipe.data.screen import Screen
from vcpipe.data.store import CellStore
from vcpipe.data.token_batches import TokenBatches, split_cells
from vcpipe.data.vocabulary import PAD, Vocabulary, check_match
from vcpipe.errors import InputError, listed
from vcpipe.files import digest
from vcpipe.models.scgpt import SHARED, MaskedValueModel, TransformerGenerator
from vcpipe.models.weights import take_weights
from vcpipe.objectives import OBJECTIVES
from vcpipe.provenance import code_version
from vcpipe.training.checkpoints import ModelFolder, write_folder
from vcpipe.training.distributed import Process
from vcpipe.training.loop import Batches, Progress, Settings, train, write_metrics


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
    data = {"data_digest": store.manifest["data_digest"]}
    run = _Run(config, settings, data, code, state, process)
    run.say(f"{len(train_cells)} cells, {len(val_cells)} for val_loss, {_size(model)} weights")
    args = {
        "input_style": settings.input_style,
        "n_bins": store.manifest["cells"]["n_bins"],
        "max_seq_len": settings.max_seq_len,
        "mask_ratio": settings.mask_ratio,
        "mask_value": -1,
    }
    return run.train_and_write(model, cells, held_out, config.model, vocabulary, args, out, metrics)


def finetune(
    screen: Screen,
    rows: dict[str, np.ndarray],
    base: ModelFolder,
    config: Finetune,
    code: str,
    process: Process,
    state: Path,
    out: Path,
    metrics: Path,
) -> Progress:
    """Finetune a folder's encoder to predict perturbed cells; rows has train, val and controls."""
    settings, vocabulary = config.perturbation, base.vocabulary
    check_match(vocabulary, screen.genes, settings.min_gene_match, f"The vocabulary of {base.path}")
    known = known_genes(screen, vocabulary)
    size = base.model.model_copy(update={"dropout": config.dropout})
    torch.manual_seed(config.training.seed)
    model = TransformerGenerator(size, len(vocabulary), vocabulary.ids[PAD])
    data = {
        "data_digest": screen.data_digest,
        "rows_digest": digest({name: part.tolist() for name, part in rows.items()}),
        "pretrained_digest": base.digest,
    }
    run = _Run(config, settings, data, code, state, process)
    loaded = []
    if config.initial_weights == "pretrained":
        loaded = take_weights(model, base.state, SHARED, str(base.path / "best_model.pt"))
        count = sum(model.state_dict()[name].numel() for name in loaded)
        run.say(f"loaded {len(loaded)} tensors, {count:,} weights from {base.path}")
    make = partial(
        PerturbationBatches,
        screen,
        known,
        controls=rows["controls"],
        config=settings,
        seed=config.training.seed,
    )
    cells = make(cells=rows["train"])
    held_out = make(cells=rows["val"]) if len(rows["val"]) else None
    if held_out is None and config.training.early_stopping.monitor == "val_loss":
        raise InputError(
            "training.early_stopping.monitor is val_loss but the split has no val perturbations; "
            "expected train_loss, or a split with val."
        )
    run.say(f"{len(cells)} cells of {len(known.columns)} genes, {_size(model)} weights")
    if cells.unusable:
        run.say(f"left out, the model does not know their genes: {listed(cells.unusable)}")
    args = {"max_seq_len": settings.max_seq_len, "loaded": loaded}
    return run.train_and_write(model, cells, held_out, size, vocabulary, args, out, metrics)


def _size(model: nn.Module) -> str:
    return f"{sum(weight.numel() for weight in model.parameters()):,}"


class _Run:
    """What both kinds share: a state folder named after all that shapes the run, a log, the end."""

    def __init__(
        self,
        config: Pretrain | Finetune,
        objective: Section,
        data: dict,
        code: str,
        state: Path,
        process: Process,
    ):
        self.config, self.data, self.objective = config, data, objective
        settings = config.model_dump(mode="json")
        self.folder = state / digest({"config": settings, "data": data, "code": code})
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "run.log"
        self.process = process

    def say(self, text: str) -> None:
        """Every process trains, the first one speaks."""
        if not self.process.first:
            return
        print(text, flush=True)
        with self.log.open("a") as handle:
            handle.write(text + "\n")

    def train_and_write(
        self,
        model: nn.Module,
        cells: Batches,
        held_out: Batches | None,
        size,
        vocabulary: Vocabulary,
        args: dict,
        out: Path,
        metrics: Path,
    ) -> Progress:
        objective = OBJECTIVES[self.config.objective]

        def loss(model, batch, generator):
            return objective(model, batch, self.objective, generator)

        weights, progress = train(
            model,
            loss,
            cells,
            held_out,
            Settings(self.config.optimizer, self.config.scheduler, self.config.training),
            self.process,
            self.folder,
            self.say,
        )
        if self.process.first:
            about = {
                **self.data,
                "objective": self.config.objective,
                "config": self.config.model_dump(mode="json"),
                "config_digest": digest(self.config.model_dump(mode="json")),
                "code_version": code_version(),
                "best_epoch": progress.best_epoch,
                "best_loss": progress.best,
                "updates": progress.update,
            }
            self.say(f"best epoch {progress.best_epoch + 1}: {progress.best:.4f}; wrote {out}")
            write_folder(out, weights, size, vocabulary, args, about, self.log)
            write_metrics(metrics, progress.rows)
        return progress
