"""Control cells and a perturbation -> predicted cells, in chunks of genes as long as trained."""

# C cells, G genes of the screen, T genes of a chunk

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from vcpipe.config.eval import Prediction
from vcpipe.data.model_cells import (
    draw_controls,
    evaluated_conditions,
    generator_for,
    start_rows,
)
from vcpipe.data.perturbation_batches import KnownGenes, known_genes
from vcpipe.data.screen import Screen, check_same_screen
from vcpipe.data.splits import SplitTable, check_same_split
from vcpipe.data.vocabulary import PAD
from vcpipe.errors import InputError, listed
from vcpipe.models.scgpt import TransformerGenerator
from vcpipe.models.weights import take_weights
from vcpipe.training.checkpoints import ModelFolder, read_folder
from vcpipe.training.distributed import Process, joined


def predictions(
    screen: Screen,
    split: SplitTable,
    controls: dict[str, str],
    path: Path,
    config: Prediction,
    devices: int,
) -> tuple[Iterator[tuple[str, np.ndarray]], dict]:
    """Predicted cells of each evaluated condition, and what is to be known about them."""
    folder = read_folder(path)
    if folder.about.get("objective") != "perturbation":
        raise InputError(
            f"{path} was not made by finetune_perturbation "
            f"(objective {folder.about.get('objective')!r}); finetune it first."
        )
    check_same_split(path, folder.about["split_digest"], split, controls)
    check_same_screen(path, folder.about, screen)
    known = known_genes(
        screen, folder.vocabulary, folder.about.get("renamed_genes"), unknown_genes(folder)
    )
    conditions = list(evaluated_conditions(split))
    rows = start_rows(screen, split, controls)
    unflagged = [condition for condition in conditions if not known.flags(condition)]
    notes = [f"{len(known.columns)} of {len(screen.genes)} genes are predicted"]
    if unflagged:
        notes.append(f"predicted without a flag, the model lacks the gene: {listed(unflagged)}")

    def cells() -> Iterator[tuple[str, np.ndarray]]:
        with joined(devices) as process:
            model = build_generator(folder, process)
            for condition in conditions:
                generator = generator_for(condition, config.seed)
                control_CG = draw_controls(screen, rows, config.num_cells, generator)
                targets = known.targets(condition)
                length = folder.args["max_seq_len"]
                yield (
                    condition,
                    predict_cells(
                        model, known, control_CG, targets, length, config, generator, process
                    ),
                )

    about = {
        "kind": "model",
        "config_digest": folder.about["config_digest"],
        "data_digest": screen.data_digest,
        "target_sum": screen.target_sum,
        "split_digest": folder.about["split_digest"],
        "notes": notes,
    }
    return cells(), about


def unknown_genes(folder: ModelFolder) -> str:
    """What the model was shown of genes without a token; folders of earlier versions: nothing."""
    return folder.about["config"]["perturbation"].get("unknown_genes", "left_out")


def build_generator(folder: ModelFolder, process: Process) -> TransformerGenerator:
    """The folder's model, every weight loaded, ready to predict."""
    # Folders of earlier versions do not say: they had no bins.
    bins = folder.args.get("n_input_bins", 0)
    pad_id = folder.vocabulary.ids[PAD]
    model = TransformerGenerator(folder.model, len(folder.vocabulary), pad_id, bins)
    take_weights(model, folder.state, ("",), str(folder.path / "best_model.pt"))
    return model.to(process.device).eval()


@torch.inference_mode()
def predict_cells(
    model: TransformerGenerator,
    known: KnownGenes,
    control_CG: np.ndarray,
    targets: list[int],
    max_seq_len: int,
    config: Prediction,
    generator: np.random.Generator,
    process: Process,
) -> np.ndarray:
    """Predict each control cell's perturbed twin; genes unknown to the model keep their value.

    Training never saw more than max_seq_len genes at once, so longer panels are predicted in random
    chunks, with the perturbed genes in every one of them. Predictions below zero become zero:
    log-normalised expression has no negative values.
    """
    predicted_CG = control_CG.copy()
    for chunk in gene_chunks(len(known.columns), targets, max_seq_len, generator):
        genes_T = torch.from_numpy(known.token_ids[chunk].astype(np.int64)).to(process.device)
        flags = np.isin(chunk, targets).astype(np.int64)
        columns = known.columns[chunk]
        for start in range(0, len(control_CG), config.batch_size):
            rows = slice(start, start + config.batch_size)
            control_CT = torch.from_numpy(control_CG[rows][:, columns]).to(process.device)
            flags_CT = torch.from_numpy(flags).to(process.device).expand(len(control_CT), -1)
            predicted_CT = model(genes_T, control_CT, flags_CT)
            predicted_CG[rows, columns] = predicted_CT.clamp(min=0).float().cpu().numpy()
    return predicted_CG


def gene_chunks(
    num_genes: int, targets: list[int], max_seq_len: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Cover all genes by sorted chunks of at most max_seq_len that each hold the targets."""
    if num_genes <= max_seq_len:
        return [np.arange(num_genes)]
    others = np.setdiff1d(generator.permutation(num_genes), targets, assume_unique=True)
    others = generator.permutation(others)
    room = max_seq_len - len(targets)
    num_chunks = -(-len(others) // room)
    return [
        np.sort(np.concatenate([targets, part])).astype(np.int64)
        for part in np.array_split(others, num_chunks)
    ]
