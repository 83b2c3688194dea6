"""Control cells and a perturbation -> predicted cells, in chunks of genes as long as trained."""

# C cells, K genes that the model knows, T genes of a chunk, G genes of the screen

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from vcpipe.config.eval import Prediction
from vcpipe.data.model_cells import start_rows
from vcpipe.data.perturbation_batches import KnownGenes, known_genes
from vcpipe.data.predicted_cells import (
    OfCells,
    PredictedCells,
    asked_of_list,
    asked_of_split,
    predicted_cells,
)
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
    targets: Path | None = None,
) -> tuple[Iterator[PredictedCells], dict]:
    """Cells of each evaluated condition, or of a list of targets, and what to know about them."""
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
    asked = asked_of_split(split, config)
    if targets is not None:
        asked = asked_of_list(targets, split, known.position, f"the model of {path}", config)
    rows = start_rows(screen, split, controls)
    unflagged = [one for one in asked.conditions if not known.flags(one)]
    unflagged = [one for one in unflagged if one not in asked.unchanged]
    notes = [f"{len(known.columns)} of {len(screen.genes)} genes are predicted", *asked.notes]
    if unflagged:
        notes.append(f"predicted without a flag, the model lacks the gene: {listed(unflagged)}")
    max_seq_len = folder.args["max_seq_len"]
    if config.genes_per_pass == "full" and len(known.columns) > max_seq_len:
        notes.append(
            f"{len(known.columns)} genes at once, of which training saw {max_seq_len} at most"
        )

    def cells() -> Iterator[PredictedCells]:
        with joined(devices) as process:
            model = build_generator(folder, process)

            def predictor(condition: str, generator: np.random.Generator) -> OfCells:
                targets = known.targets(condition)
                chunks = chunks_of_passes(known, targets, max_seq_len, config, generator)
                size = config.batch_size
                return partial(predict_cells, model, known, targets, chunks, size, process)

            yield from predicted_cells(screen, rows, asked, predictor, config)

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
    targets: list[int],
    chunks: list[np.ndarray],
    batch_size: int,
    process: Process,
    control_CG: np.ndarray,
) -> np.ndarray:
    """Predict each control cell's perturbed twin; genes unknown to the model keep their value.

    A gene that is in several chunks is their mean. Predictions below zero become zero:
    log-normalised expression has no negative values.
    """
    device = process.device
    control_CK = torch.from_numpy(control_CG[:, known.columns]).to(device)
    sum_CK = torch.zeros_like(control_CK)
    num_K = torch.zeros(len(known.columns), device=device)
    for chunk in chunks:
        chunk_T = torch.from_numpy(chunk).to(device)
        genes_T = torch.from_numpy(known.token_ids[chunk].astype(np.int64)).to(device)
        flags_T = torch.from_numpy(np.isin(chunk, targets).astype(np.int64)).to(device)
        num_K[chunk_T] += 1
        for start in range(0, len(control_CK), batch_size):
            rows = slice(start, start + batch_size)
            control_CT = control_CK[rows].index_select(1, chunk_T)
            predicted_CT = model(genes_T, control_CT, flags_T.expand(len(control_CT), -1))
            sum_CK[rows].index_add_(1, chunk_T, predicted_CT.float())
    predicted_CG = control_CG.copy()
    predicted_CG[:, known.columns] = (sum_CK / num_K).clamp(min=0).cpu().numpy()
    return predicted_CG


def chunks_of_passes(
    known: KnownGenes,
    targets: list[int],
    max_seq_len: int,
    config: Prediction,
    generator: np.random.Generator,
) -> list[np.ndarray]:
    """The genes of each forward pass: all of them, or random chunks, drawn anew for each pass.

    Training never saw more than max_seq_len genes at once.
    """
    num_genes = len(known.columns)
    if config.genes_per_pass == "full" or num_genes <= max_seq_len:
        return [np.arange(num_genes)]
    return [
        chunk
        for _ in range(config.passes)
        for chunk in gene_chunks(num_genes, targets, max_seq_len, generator)
    ]


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
