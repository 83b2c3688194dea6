"""Finetuning: a pretrained folder and a screen in, a folder that predicts perturbed cells out."""

from dataclasses import replace
from functools import partial, reduce
from pathlib import Path

import numpy as np
import torch

from vcpipe.config.finetune import Finetune
from vcpipe.data.condition_means import gene_weights, training_effects
from vcpipe.data.gene_names import match_genes, read_aliases, renamed_genes
from vcpipe.data.model_cells import model_rows
from vcpipe.data.pairing import Pairs, check_own_contexts, check_same_controls
from vcpipe.data.perturbation_batches import PerturbationBatches, check_targets, known_genes
from vcpipe.data.screen import Screen
from vcpipe.data.seen import seen_controls
from vcpipe.data.splits import SplitTable, control_rows, controls_of_set, split_digest
from vcpipe.data.upstream_batches import UpstreamBatches
from vcpipe.data.vocabulary import PAD, check_match
from vcpipe.errors import InputError, listed
from vcpipe.models.embedding_rows import keep_rows
from vcpipe.models.lora import add_lora, freeze, merged
from vcpipe.models.scgpt import SHARED, TransformerGenerator
from vcpipe.models.weights import take_weights
from vcpipe.objectives.perturbation import perturbation
from vcpipe.training.checkpoints import ModelFolder
from vcpipe.training.distributed import Process
from vcpipe.training.perturbation_scores import PerturbationScores
from vcpipe.training.progress import Progress
from vcpipe.training.resident_values import place_of_values
from vcpipe.training.run import Run, num_weights

OBJECTIVES = {"perturbation": perturbation}


def finetune(
    screen: Screen,
    split: SplitTable,
    controls: dict[str, str],
    pairs: Pairs,
    base: ModelFolder,
    config: Finetune,
    code: str,
    process: Process,
    state: Path,
    out: Path,
    metrics: Path,
    threads: int = 1,
) -> Progress:
    """Finetune a folder's encoder on the split's training perturbations."""
    settings, vocabulary = config.perturbation, base.vocabulary
    if config.seeds or config.random_init_twin:
        raise InputError(
            f"seeds is {config.seeds} and random_init_twin {config.random_init_twin}, which make "
            "several runs; expected one of them. Snakemake starts each; here, leave both out and "
            "set training.seed and initial_weights."
        )
    check_unseen(base, screen, split, controls)
    check_same_controls(pairs, screen, controls)
    check_own_contexts(pairs, screen, split)
    rows = model_rows(screen, split, controls)
    aliases = read_aliases() if settings.gene_aliases else None
    matches = match_genes(screen.genes, screen.gene_ids, vocabulary.ids, aliases)
    token_ids, what = matches["token_id"].to_numpy(), f"The vocabulary of {base.path}"
    check_match(screen.genes, token_ids, settings.min_gene_match, what)
    renamed = renamed_genes(matches)
    known = known_genes(screen, vocabulary, renamed, settings.unknown_genes)
    for set_name in ("train", "val"):
        check_targets(screen, known, split.conditions(set_name))
    size = base.model.model_copy(update={"dropout": config.dropout})
    torch.manual_seed(config.training.seed)
    bins = settings.n_input_bins
    model = TransformerGenerator(size, len(vocabulary), vocabulary.ids[PAD], bins)
    data = {
        "data_digest": screen.data_digest,
        # The digest is of counts; the same counts on another scale are another run.
        "target_sum": screen.target_sum,
        "split_digest": split_digest(split, controls),
        "pairs_digest": pairs.digest,
        "pretrained_digest": base.digest,
        # Prediction gives every gene the token it was trained with, whatever table ships by then.
        "renamed_genes": renamed,
    }
    run = Run(config, data, code, state, process)
    loaded, num_loaded = [], 0
    if config.initial_weights == "pretrained":
        taken = take_weights(model, base.state, SHARED, str(base.path))
        loaded, num_loaded = taken.loaded, taken.num_weights
        for line in taken.lines():
            run.say(line)
        for name in loaded:
            run.say(f"loaded {name} {tuple(model.state_dict()[name].shape)}")
    rows_of_data = keep_rows(model, "encoder.embedding", known.token_ids)
    known = replace(known, token_ids=rows_of_data.places(known.token_ids))
    freeze(model, [*config.freeze, *(SHARED if config.lora else ())])
    if config.lora:
        adapted = add_lora(model, config.lora)
        run.say(f"{len(adapted)} linear layers learn changes of rank {config.lora.rank}")
    make = partial(
        PerturbationBatches, screen, known, control_row=pairs.control_row, config=settings
    )
    weights = None
    if settings.delta_weight:
        effects = training_effects(screen, split, controls, pairs.control_row)
        weights = gene_weights(effects, settings.delta_weight)
    pool = partial(controls_of_set, screen, split, controls, use="model")
    cells = make(cells=rows["train"], pool=pool(set_name="train"), weights=weights)
    held_out = make(cells=rows["val"], pool=pool(set_name="val")) if len(rows["val"]) else None
    early = config.training.early_stopping
    if held_out is None and early.needs_val:
        raise InputError(
            f"training.early_stopping.monitor is {early.monitor} but the split has no val "
            "perturbations; expected train_loss, or a split with val."
        )
    scores = None
    if early.is_score:
        scores = PerturbationScores(
            *(screen, split, controls, known),
            num_cells=settings.val_cells,
            max_seq_len=settings.max_seq_len,
            batch_size=config.training.batch_size,
            seed=config.training.seed,
            process=process,
        )
    run.say(f"{len(cells.cells)} cells of {len(known.columns)} genes, {num_weights(model)}")
    if renamed:
        run.say(f"{len(renamed)} genes have the token of another of their names")
    unknown = {"left_out": "left out", "pad": f"shown as {PAD}"}[settings.unknown_genes]
    if (token_ids < 0).any():
        run.say(f"{(token_ids < 0).sum()} genes without a token are {unknown}")
    for row in matches[matches["note"] != ""].itertuples():
        run.say(f"{unknown}, {row.fate}: {row.gene}, {row.note}")
    for note in cells.notes(config.training.batch_size):
        run.say(note)
    args = {
        "max_seq_len": settings.max_seq_len,
        "n_input_bins": bins,
        "loaded": loaded,
        "num_loaded_weights": num_loaded,
    }
    loss = partial(OBJECTIVES[config.objective], config=settings)
    both = [cells, held_out] if held_out else [cells]
    needed = reduce(np.union1d, [its.rows() for its in both])
    values, resident, said = place_of_values(screen, known, needed, settings.data_on, process)
    run.say(said)
    for its in both:
        its.values = values
    if resident is not None:
        loss = resident.before(loss)
    if settings.gene_sampling == "upstream":
        cells = UpstreamBatches(cells, config.training, process.world)
    return run.train_and_write(
        *(model, loss, cells, held_out, size, vocabulary, args, out, metrics),
        threads=threads,
        scores=scores,
        exported=lambda state: rows_of_data.filled(
            merged(state, config.lora) if config.lora else state
        ),
    )


def check_unseen(
    base: ModelFolder, screen: Screen, split: SplitTable, controls: dict[str, str]
) -> None:
    """Refuse an encoder that was pretrained on cells kept out of train, or kept for scoring."""
    seen = base.about.get("seen", {}).get(screen.data_digest)
    if seen is None:
        return
    if "controls" not in seen:
        raise InputError(
            f"{base.path} was pretrained on cells of {screen.path} by an earlier version, which "
            "did not note all that it has seen; pretrain it again."
        )
    key = split.context_key or "condition"
    # A context is held out as a whole: its controls count too.
    held_out = {context or one for (one, context), its in split.sets.items() if its != "train"}
    remedy = "Prepare its corpus with this split (preprocess.<corpus>.split)."
    if held_out & set(seen[key]):
        raise InputError(
            f"{base.path} was pretrained on cells of {listed(sorted(held_out & set(seen[key])))}, "
            f"which the split holds out. {remedy}"
        )
    both = np.intersect1d(seen_controls(seen, screen), control_rows(screen, controls, "scoring"))
    if len(both):
        raise InputError(
            f"{base.path} was pretrained on {len(both)} control cells that are kept for scoring: "
            f"{listed(screen.cells[both])}. {remedy}"
        )
