"""Values of all training cells in the memory of a GPU, where batches are gathered."""

# R rows that are asked for, B cells, T chosen genes, K known genes
# L detected genes of the longest cell, S distinct values of the cell that has most

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from vcpipe.data.grouped_values import Groups, groups_of, joined, most_bytes
from vcpipe.data.perturbation_batches import (
    KnownGenes,
    Values,
    ValuesElsewhere,
    ValuesInMemory,
    ValuesOnDisk,
)
from vcpipe.data.screen import Screen
from vcpipe.training.distributed import Process, free_memory, is_queued
from vcpipe.training.forward import Loss

# Of a GPU's free memory; the rest is for the model and its activations.
SHARE = 0.5


def place_of_values(
    screen: Screen, known: KnownGenes, rows: np.ndarray, data_on: str, process: Process
) -> tuple[Values, "ResidentValues | None", str]:
    """Where batches find the values of rows, what holds them on a GPU, and a line that says so."""
    size = most_bytes(screen, rows)
    fits = is_queued(process) and size <= SHARE * free_memory(process)
    if data_on == "host" or (data_on == "auto" and not fits):
        return ValuesOnDisk(screen, known), None, f"values are read from {screen.path}"
    parts = groups_of(screen, known.columns, rows)
    where = f"values of {len(rows)} cells lie in the memory of {process.device}"
    if not is_queued(process):
        groups = joined(list(parts))
        values = ValuesInMemory(groups, rows, known)
        return values, None, f"{where}, {groups.num_bytes / 1e9:.2f} GB"
    resident = ResidentValues(
        parts, len(known.columns), int(screen.num_detected[rows].sum()), process.device
    )
    said = f"{where}, {resident.num_bytes / 1e9:.2f} GB"
    return ValuesElsewhere(rows), resident, said


class ResidentValues:
    """Groups as tensors. To gather a batch of them, the processor never waits for the device."""

    def __init__(
        self, parts: Iterator[Groups], num_genes: int, most_entries: int, device: torch.device
    ):
        self.num_genes = num_genes
        self.starts = self.first_value = torch.zeros(1, dtype=torch.int64, device=device)
        # In one piece from the beginning: to join parts would take twice the memory.
        kind = torch.int16 if num_genes <= 2**16 else torch.int32
        self.genes = torch.zeros(max(most_entries, 1), dtype=kind, device=device)
        values, ends, num_entries = [], [], 0
        self.longest = self.most_values = 1
        for part in parts:
            num_genes_R, num_values_R = np.diff(part.starts), np.diff(part.first_value)
            self.longest = max(self.longest, int(num_genes_R.max()))
            self.most_values = max(self.most_values, int(num_values_R.max()))
            # torch knows no arithmetic of uint16: the same bits as int16.
            genes = torch.from_numpy(part.genes.view(np.dtype(f"i{part.genes.itemsize}")))
            self.genes[num_entries : num_entries + len(genes)] = genes.to(device)
            num_entries += len(genes)
            self.starts = _continued(self.starts, num_genes_R)
            self.first_value = _continued(self.first_value, num_values_R)
            values.append(torch.from_numpy(part.values).to(device))
            ends.append(torch.from_numpy(part.ends).to(device))
        # A last one, for places behind the last cell.
        self.values = torch.cat([*values, torch.zeros(1, device=device)])
        self.ends = torch.cat([*ends, torch.zeros(1, dtype=torch.int32, device=device)])

    @property
    def num_bytes(self) -> int:
        its = (self.starts, self.first_value, self.genes, self.values, self.ends)
        return sum(tensor.numel() * tensor.element_size() for tensor in its)

    def before(self, loss: Loss) -> Loss:
        """The loss of batches that say where their values are."""

        def filled(
            model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator
        ) -> tuple[Tensor, int]:
            return loss(model, self.fill(batch), generator=generator)

        return filled

    @torch.no_grad()
    def fill(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put control and perturbed [B, T] in the place of the held rows [2, B] and chosen [T]."""
        rest = {name: its for name, its in batch.items() if name not in ("held", "chosen")}
        values_RT = self.of(batch["held"].flatten(), batch["chosen"])
        control_BT, perturbed_BT = values_RT.chunk(2)
        return rest | {"control": control_BT, "perturbed": perturbed_BT}

    def of(self, rows_R: Tensor, chosen_T: Tensor) -> Tensor:
        """Values [R, T]. All rows are taken to be as long as the longest one."""
        num_chosen = len(chosen_T)
        entry_L = torch.arange(self.longest, device=rows_R.device)
        first_R, last_R = self.starts[rows_R], self.starts[rows_R + 1]
        place_RL = first_R[:, None] + entry_L
        genes_RL = self.genes[place_RL.clamp(max=len(self.genes) - 1)].long()
        if self.genes.dtype == torch.int16:
            genes_RL &= 0xFFFF
        # A column behind the chosen ones takes what is not wanted.
        column_K = torch.full((self.num_genes,), num_chosen, device=rows_R.device)
        column_K[chosen_T] = torch.arange(num_chosen, device=rows_R.device)
        column_RL = column_K[genes_RL].masked_fill_(place_RL >= last_R[:, None], num_chosen)
        values_RT = torch.zeros(len(rows_R), num_chosen + 1, device=rows_R.device)
        values_RT.scatter_(1, column_RL, self._by_entry(rows_R, entry_L))
        return values_RT[:, :num_chosen].contiguous()

    def _by_entry(self, rows_R: Tensor, entry_L: Tensor) -> Tensor:
        """The value of each entry of a row: that of the first group that ends behind it."""
        group_S = torch.arange(self.most_values, device=rows_R.device)
        place_RS = self.first_value[rows_R][:, None] + group_S
        is_over_RS = place_RS >= self.first_value[rows_R + 1][:, None]
        place_RS = place_RS.clamp_(max=len(self.ends) - 1)
        ends_RS = self.ends[place_RS].masked_fill_(is_over_RS, self.longest)
        entry_RL = entry_L.int().expand(len(rows_R), -1).contiguous()
        group_RL = torch.searchsorted(ends_RS, entry_RL, right=True)
        return self.values[place_RS].gather(1, group_RL.clamp_(max=self.most_values - 1))


def _continued(starts: Tensor, sizes: np.ndarray) -> Tensor:
    """Row starts, and those of rows that follow."""
    return torch.cat([starts, starts[-1] + torch.from_numpy(np.cumsum(sizes)).to(starts.device)])
