"""What a model in training makes of held-out perturbations: it decides which weights are kept.

Squared errors and correlations of whole profiles hardly tell perturbations apart; these do.
"""

# P perturbations, C control cells, G genes that the model knows, T genes of a chunk

import numpy as np
import torch
from torch import nn

from vcpipe.data.condition_means import held_out_profiles
from vcpipe.data.model_cells import generator_for
from vcpipe.data.perturbation_batches import KnownGenes
from vcpipe.data.screen import Screen
from vcpipe.data.splits import SplitTable
from vcpipe.errors import InputError
from vcpipe.training.distributed import Process, total
from vcpipe.training.prediction import gene_chunks


class PerturbationScores:
    """Predicts each val perturbation from the same control cells every time.

    Test cells, and control cells that are kept for scoring, have no part in it.
    """

    def __init__(
        self,
        screen: Screen,
        split: SplitTable,
        controls: dict[str, str],
        known: KnownGenes,
        *,
        num_cells: int,
        max_seq_len: int,
        batch_size: int,
        seed: int,
        process: Process,
    ):
        conditions = [each for each in split.conditions("val") if known.flags(each)]
        if len(conditions) < 2:
            raise InputError(
                f"training.early_stopping.monitor compares val perturbations, and the split has "
                f"{len(conditions)} whose genes the model knows; expected at least 2, or val_loss."
            )
        self.screen, self.known, self.process, self.seed = screen, known, process, seed
        self.length, self.batch_size = max_seq_len, batch_size
        self.profiles = held_out_profiles(screen, split, controls, conditions)
        self.num_cells = min(num_cells, len(self.profiles.controls))
        self.measured_PG = self.profiles.mean_PG[:, known.columns]
        self.reference_G = self.profiles.train_mean_G[known.columns]
        self.targets = [known.targets(each) for each in conditions]

    def __call__(self, model: nn.Module) -> dict[str, float]:
        predicted_PG = np.stack([self._sum(model, place) for place in range(len(self.targets))])
        summed = total(predicted_PG.ravel().tolist(), self.process)
        predicted_PG = np.reshape(summed, predicted_PG.shape) / self.num_cells
        if not np.isfinite(predicted_PG).all():
            # Comparisons with NaN would call it the best; the loop stops at a score that is NaN.
            return {"val_delta_pearson": float("nan"), "val_discrimination": float("nan")}
        return {
            "val_delta_pearson": float(
                delta_pearson(
                    predicted_PG - self.reference_G,
                    self.measured_PG - self.reference_G,
                    self.targets,
                ).mean()
            ),
            "val_discrimination": float(
                discrimination(predicted_PG, self.measured_PG, self.targets).mean()
            ),
        }

    def _sum(self, model: nn.Module, place: int) -> np.ndarray:
        """Of the cells predicted by this process: all processes call the model equally often."""
        generator = generator_for(self.profiles.conditions[place], self.seed)
        rows = np.sort(generator.choice(self.profiles.controls, self.num_cells, replace=False))
        control_CG = self.screen.values(rows).toarray()[:, self.known.columns]
        world = self.process.world
        mine = np.arange(self.process.rank, self.num_cells, world)
        num_calls = -(-self.num_cells // (world * self.batch_size))
        targets, device = self.targets[place], self.process.device
        sum_G = np.zeros(len(self.known.columns))
        for chunk in gene_chunks(len(sum_G), targets, self.length, generator):
            genes_T = torch.from_numpy(self.known.token_ids[chunk].astype(np.int64)).to(device)
            flags_T = torch.from_numpy(np.isin(chunk, targets).astype(np.int64)).to(device)
            sum_T = np.zeros(len(chunk))
            for part in np.array_split(mine, num_calls):
                # Processes without a cell of their own call the model too, for nothing.
                rows = part if len(part) else np.zeros(1, dtype=np.int64)
                control_CT = torch.from_numpy(control_CG[rows][:, chunk]).to(device)
                predicted_CT = model(genes_T, control_CT, flags_T.expand(len(rows), -1))
                if len(part):
                    sum_T += predicted_CT.float().clamp(min=0).sum(0).cpu().numpy()
            # Perturbed genes are in every chunk; the last prediction stands.
            sum_G[chunk] = sum_T
        return sum_G


def delta_pearson(
    predicted_PG: np.ndarray, measured_PG: np.ndarray, targets: list[list[int]]
) -> np.ndarray:
    """Correlation of changes over all genes but the perturbed ones.

    A prediction that is the same for all genes says nothing, and has 0.
    """
    found = np.zeros(len(targets))
    for place, its in enumerate(targets):
        one, other = (np.delete(each[place], its) for each in (predicted_PG, measured_PG))
        one, other = one - one.mean(), other - other.mean()
        length = np.linalg.norm(one) * np.linalg.norm(other)
        if length > 0:
            found[place] = one @ other / length
    return found


def discrimination(
    predicted_PG: np.ndarray, measured_PG: np.ndarray, targets: list[list[int]]
) -> np.ndarray:
    """How near its own measured profile a prediction is, among those of all: 1 the nearest, 0 last.

    Without knowledge 0.5 is expected; ties take the middle.
    """
    found = np.zeros(len(targets))
    for place, its in enumerate(targets):
        distance_PG = np.abs(measured_PG - predicted_PG[place])
        distance_P = np.delete(distance_PG, its, axis=1).sum(axis=1)
        others = np.delete(distance_P, place)
        nearer = (others < distance_P[place]).sum() + (others == distance_P[place]).sum() / 2
        found[place] = 1 - nearer / len(others)
    return found
