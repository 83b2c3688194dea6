"""Finetuning: a pretrained folder and a screen in, a folder that predicts perturbed cells out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vcpipe.config.finetune import Finetune, Perturbation
from vcpipe.config.model import Transformer
from vcpipe.data.condition_means import gene_weights, training_effects
from vcpipe.data.gene_names import match_genes, read_aliases, renamed_genes
from vcpipe.data.model_cells import model_rows
from vcpipe.data.pairing import Pairs, check_own_contexts, check_same_controls
from vcpipe.data.perturbation_batches import (
    KnownGenes,
    PerturbationBatches,
    check_targets,
    known_genes,
)
from vcpipe.data.screen import Screen
from vcpipe.data.seen import seen_controls, seen_of, together
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
    check_is_one_run(config)
    check_unseen(base, screen, split, controls)
    check_same_controls(pairs, screen, controls)
    check_own_contexts(pairs, screen, split)
    aliases = read_aliases() if settings.gene_aliases else None
    matches = match_genes(screen.genes, screen.gene_ids, vocabulary.ids, aliases)
    what = f"The vocabulary of {base.path}"
    check_match(screen.genes, matches["token_id"].to_numpy(), settings.min_gene_match, what)
    renamed = renamed_genes(matches)
    known = known_genes(screen, vocabulary, renamed, settings.unknown_genes)
    for set_name in ("train", "val"):
        check_targets(screen, known, split.conditions(set_name))
    data = {
        "data_digest": screen.data_digest,
        # The digest is of counts; the same counts on another scale are another run.
        "target_sum": screen.target_sum,
        "split_digest": split_digest(split, controls),
        "pairs_digest": pairs.digest,
        "pretrained_digest": base.digest,
        # Prediction gives every gene the token it was trained with, whatever table ships by then.
        "renamed_genes": renamed,
        "seen": seen_with(base, screen, split, controls),
        "selected_by": selected_by(base, screen, split),
    }
    run = Run(config, data, code, state, process)
    start = starting_model(base, known, config, run.say)
    known = start.known
    cells, held_out = batches_of_sets(screen, split, controls, pairs, known, config)
    run.say(f"{len(cells.cells)} cells of {len(known.columns)} genes, {num_weights(start.model)}")
    for line in [*of_genes(matches, settings), *cells.notes(config.training.batch_size)]:
        run.say(line)
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
        *(start.model, loss, cells, held_out, start.size, vocabulary, start.args, out, metrics),
        threads=threads,
        scores=scores_of_val(screen, split, controls, known, config, process),
        exported=start.exported,
    )


@dataclass(frozen=True)
class Start:
    """A generator that is ready to learn, and what its folder will say of it."""

    model: TransformerGenerator
    size: Transformer
    known: KnownGenes  # by the rows of the embedding that are trained
    args: dict
    exported: Callable[[dict[str, Tensor]], dict[str, Tensor]]  # learned weights -> the folder's


def starting_model(
    base: ModelFolder, known: KnownGenes, config: Finetune, say: Callable[[str], None]
) -> Start:
    """The folder's encoder under new decoders, as far as it is to be trained."""
    size = base.model.model_copy(update={"dropout": config.dropout})
    torch.manual_seed(config.training.seed)
    vocabulary, bins = base.vocabulary, config.perturbation.n_input_bins
    model = TransformerGenerator(size, len(vocabulary), vocabulary.ids[PAD], bins)
    args = {"max_seq_len": config.perturbation.max_seq_len, "n_input_bins": bins}
    args |= {"loaded": [], "num_loaded_weights": 0}
    if config.initial_weights == "pretrained":
        taken = take_weights(model, base.state, SHARED, str(base.path))
        args |= {"loaded": taken.loaded, "num_loaded_weights": taken.num_weights}
        for line in taken.lines():
            say(line)
        for name in taken.loaded:
            say(f"loaded {name} {tuple(model.state_dict()[name].shape)}")
    rows_of_data = keep_rows(model, "encoder.embedding", known.token_ids)
    freeze(model, [*config.freeze, *(SHARED if config.lora else ())])
    if config.lora:
        adapted = add_lora(model, config.lora, SHARED, config.freeze)
        say(f"{len(adapted)} linear layers learn changes of rank {config.lora.rank}")

    def exported(state: dict[str, Tensor]) -> dict[str, Tensor]:
        return rows_of_data.filled(merged(state, config.lora) if config.lora else state)

    known = replace(known, token_ids=rows_of_data.places(known.token_ids))
    return Start(model, size, known, args, exported)


def batches_of_sets(
    screen: Screen,
    split: SplitTable,
    controls: dict[str, str],
    pairs: Pairs,
    known: KnownGenes,
    config: Finetune,
) -> tuple[PerturbationBatches, PerturbationBatches | None]:
    """Batches of the cells to learn from, and of val cells where the split has any."""
    settings, early = config.perturbation, config.training.early_stopping
    rows = model_rows(screen, split, controls)
    if not len(rows["val"]) and early.needs_val:
        raise InputError(
            f"training.early_stopping.monitor is {early.monitor} but the split has no val "
            "perturbations; expected train_loss, or a split with val."
        )
    weights = None
    if settings.delta_weight:
        effects = training_effects(screen, split, controls, pairs.control_row)
        weights = gene_weights(effects, settings.delta_weight)

    def batches(set_name: str, weights: pd.DataFrame | None = None) -> PerturbationBatches:
        pool = controls_of_set(screen, split, controls, set_name=set_name, use="model")
        of_cells = (rows[set_name], pairs.control_row, settings)
        return PerturbationBatches(screen, known, *of_cells, pool=pool, weights=weights)

    return batches("train", weights), batches("val") if len(rows["val"]) else None


def scores_of_val(
    screen: Screen,
    split: SplitTable,
    controls: dict[str, str],
    known: KnownGenes,
    config: Finetune,
    process: Process,
) -> PerturbationScores | None:
    if not config.training.early_stopping.is_score:
        return None
    return PerturbationScores(
        *(screen, split, controls, known),
        num_cells=config.perturbation.val_cells,
        max_seq_len=config.perturbation.max_seq_len,
        batch_size=config.training.batch_size,
        seed=config.training.seed,
        process=process,
    )


def of_genes(matches: pd.DataFrame, settings: Perturbation) -> list[str]:
    """Which genes have another's token, and which have none."""
    found, num_renamed = [], len(renamed_genes(matches))
    if num_renamed:
        found.append(f"{num_renamed} genes have the token of another of their names")
    without = int((matches["token_id"] < 0).sum())
    fate = {"left_out": "left out", "pad": f"shown as {PAD}"}[settings.unknown_genes]
    if without:
        found.append(f"{without} genes without a token are {fate}")
    noted = matches[matches["note"] != ""].itertuples()
    return [*found, *(f"{fate}, {row.fate}: {row.gene}, {row.note}" for row in noted)]


def check_is_one_run(config: Finetune) -> None:
    if config.seeds or config.random_init_twin:
        raise InputError(
            f"seeds is {config.seeds} and random_init_twin {config.random_init_twin}, which make "
            "several runs; expected one of them. Snakemake starts each; here, leave both out and "
            "set training.seed and initial_weights."
        )


def seen_with(
    base: ModelFolder, screen: Screen, split: SplitTable, controls: dict[str, str]
) -> dict[str, dict]:
    """What the weights are learned from, by data digest of a screen: its base's cells, and ours."""
    partners = controls_of_set(screen, split, controls, set_name="train", use="model")
    rows = np.union1d(model_rows(screen, split, controls)["train"], partners)
    ours = {screen.data_digest: seen_of(screen, rows)}
    return together(base.about.get("seen", {}), ours)


def selected_by(base: ModelFolder, screen: Screen, split: SplitTable) -> dict[str, list[str]]:
    """The val perturbations that decided which weights are kept, by data digest of a screen."""
    made = dict(base.about.get("selected_by", {}))
    before = made.get(screen.data_digest, [])
    return made | {screen.data_digest: sorted({*before, *_of_set(split, "val")})}


def _of_set(split: SplitTable, name: str) -> set[str]:
    """Perturbations of a set, with their context where contexts are held out."""
    return {" in ".join(filter(None, key)) for key, its in split.sets.items() if its == name}


def check_unseen(
    base: ModelFolder, screen: Screen, split: SplitTable, controls: dict[str, str]
) -> None:
    """Refuse an encoder that was pretrained on cells kept out of train, or kept for scoring."""
    chosen = set(base.about.get("selected_by", {}).get(screen.data_digest, []))
    tested = sorted(chosen & _of_set(split, "test"))
    if tested:
        raise InputError(
            f"The weights of {base.path} were chosen by {listed(tested)}, which the split keeps "
            "for testing. Start from another folder, or use the split that it was finetuned with."
        )
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
