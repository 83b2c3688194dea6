"""A few predictions of a finetuned model, with all that another program makes them again from."""

# C cells, T genes

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vcpipe.config.eval import Verification
from vcpipe.data.model_cells import draw_controls, evaluated_conditions, generator_for, start_rows
from vcpipe.data.order import generator_of
from vcpipe.data.perturbation_batches import known_genes
from vcpipe.data.predicted_cells import control_values
from vcpipe.data.screen import Screen, check_same_screen
from vcpipe.data.splits import SplitTable, check_same_split
from vcpipe.errors import InputError
from vcpipe.files import writing
from vcpipe.training.checkpoints import read_folder
from vcpipe.training.distributed import Process
from vcpipe.training.prediction import build_generator, gene_chunks, unknown_genes


@dataclass(frozen=True)
class Samples:
    genes: np.ndarray  # str [T], as the screen calls them
    tokens: np.ndarray  # str [T], as the vocabulary calls them
    conditions: np.ndarray  # str [C]
    control: np.ndarray  # float32 [C, T]
    predicted: np.ndarray  # float32 [C, T], as the model gives them: some are below zero

    def write(self, path: Path) -> None:
        with writing(path) as partial, partial.open("wb") as handle:
            np.savez(handle, allow_pickle=False, **vars(self))


def sample_predictions(
    screen: Screen, split: SplitTable, controls: dict[str, str], path: Path, config: Verification
) -> Samples:
    """Predict some evaluated conditions on a CPU, on as many genes at once as were trained on."""
    folder = read_folder(path)
    if folder.about.get("objective") != "perturbation":
        raise InputError(
            f"{path} was not made by finetune_perturbation "
            f"(objective {folder.about.get('objective')!r}); finetune it first."
        )
    if folder.args.get("n_input_bins"):
        raise InputError(
            f"{path} has n_input_bins {folder.args['n_input_bins']}, where scgpt draws the bins "
            "of equal values by chance, so it predicts something else each time; expected 0."
        )
    check_same_split(path, folder.about["split_digest"], split, controls)
    check_same_screen(path, folder.about, screen)
    renamed = folder.about.get("renamed_genes") or {}
    known = known_genes(screen, folder.vocabulary, renamed, unknown_genes(folder))
    flagged = [its for its in evaluated_conditions(split) if known.flags(its)]
    if not flagged:
        raise InputError(f"{path} knows the gene of no perturbation that is evaluated.")
    generator = generator_of(config.seed)
    drawn = generator.permutation(len(flagged))[: config.num_conditions]
    conditions = [flagged[place] for place in np.sort(drawn)]
    targets = sorted({place for its in conditions for place in known.targets(its)})
    length = folder.args["max_seq_len"]
    if length < len(known.columns) and len(targets) >= length:
        raise InputError(
            f"eval.verification.num_conditions is {config.num_conditions}, whose {len(targets)} "
            f"perturbed genes leave no room among the {length} genes that {path} was trained on at "
            "once; expected fewer."
        )
    chunk = gene_chunks(len(known.columns), targets, length, generator)[0]
    genes = screen.genes[known.columns[chunk]]
    rows = start_rows(screen, split, controls)
    control = [
        control_values(
            screen, draw_controls(rows, config.num_cells, generator_for(its, config.seed))
        )
        for its in conditions
    ]
    control_CT = np.concatenate(control)[:, known.columns[chunk]]
    condition_C = np.repeat(conditions, config.num_cells)
    flags_CT = np.array([np.isin(chunk, known.targets(its)) for its in condition_C], dtype=int)
    model = build_generator(folder, Process(0, 1, torch.device("cpu")))
    genes_T = torch.from_numpy(known.token_ids[chunk].astype(np.int64))
    with torch.inference_mode():
        predicted = [
            model(genes_T, torch.from_numpy(control_CT[place]), torch.from_numpy(flags_CT[place]))
            for place in np.split(np.arange(len(condition_C)), len(conditions))
        ]
    return Samples(
        genes=genes.astype(str),
        tokens=np.array([renamed.get(gene, gene) for gene in genes]),
        conditions=condition_C.astype(str),
        control=control_CT,
        predicted=torch.cat(predicted).float().numpy(),
    )
