"""The batches of scGPT's finetuning loop, line by line as its perturbation tutorial has them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vcpipe.data.screen import Screen
from vcpipe.data.vocabulary import PAD, Vocabulary


def graphs(screen: Screen, control_row: np.ndarray, cells: np.ndarray) -> list[tuple]:
    """x and y of each cell as cell-gears 0.0.2 has them: x holds expression and flags."""
    values = torch.from_numpy(screen.values(slice(None)).toarray())
    found = []
    for row in cells:
        flags = torch.from_numpy(np.isin(screen.genes, screen.condition[row].split("+")))
        x = torch.stack([values[control_row[row]], flags.float()], dim=1)
        found.append((x, values[row : row + 1]))
    return found


def joined(cells: list[tuple]) -> tuple[Tensor, ...]:
    """As torch_geometric's loader has it: the genes of one cell behind those of another."""
    return tuple(torch.cat(parts) for parts in zip(*cells, strict=True))


def upstream_loader(
    screen: Screen, control_row: np.ndarray, cells: np.ndarray, batch_size: int
) -> DataLoader:
    return DataLoader(
        graphs(screen, control_row, cells),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=joined,
    )


def gene_ids_of(screen: Screen, vocabulary: Vocabulary) -> np.ndarray:
    pad = vocabulary.ids[PAD]
    return np.array([vocabulary.ids.get(gene, pad) for gene in screen.genes], dtype=int)


def upstream_epoch(
    loader: DataLoader, gene_ids: np.ndarray, max_seq_len: int
) -> Iterator[dict[str, Tensor]]:
    """What its model is given of each batch, under its own names."""
    n_genes = len(gene_ids)
    for x, target_gene_values in loader:
        batch_size = len(target_gene_values)
        ori_gene_values = x[:, 0].view(batch_size, n_genes)
        pert_flags = x[:, 1].long().view(batch_size, n_genes)
        input_gene_ids = torch.arange(n_genes)
        if len(input_gene_ids) > max_seq_len:
            input_gene_ids = torch.randperm(len(input_gene_ids))[:max_seq_len]
        mapped_input_gene_ids = torch.from_numpy(gene_ids[input_gene_ids.numpy()])
        yield {
            "mapped_input_gene_ids": mapped_input_gene_ids.repeat(batch_size, 1),
            "input_values": ori_gene_values[:, input_gene_ids],
            "input_pert_flags": pert_flags[:, input_gene_ids],
            "target_values": target_gene_values[:, input_gene_ids],
        }
