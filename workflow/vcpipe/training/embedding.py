"""Cell embeddings: a pretrained folder and any cells in, a vector for each cell out."""

# B cells of a batch, C cells of all sources, D width

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vcpipe.config.eval import Embedding
from vcpipe.data.cell_store.cells import cells_of, gathered
from vcpipe.data.feature_ids import feature_ids
from vcpipe.data.preprocessing_record import kept_ids
from vcpipe.data.rows import Rows
from vcpipe.data.source_rows import source_rows
from vcpipe.data.sources.source import MODALITIES, CellSource, file_names
from vcpipe.errors import InputError, listed
from vcpipe.models.weights import take_weights
from vcpipe.training.distributed import Process, to_device
from vcpipe.training.embedders.contrastive import contrastive
from vcpipe.training.embedders.embedder import Embedder, Measured, PretrainedFolder
from vcpipe.training.embedders.gene_models import gene_model
from vcpipe.training.embedders.masked_values import masked_values
from vcpipe.training.embedders.peaks_to_genes import peaks_to_genes

EMBEDDERS = {
    "masked_values": masked_values,
    "masked_genes": gene_model,
    "next_genes": gene_model,
    "masked_autoencoder": gene_model,
    "contrastive": contrastive,
    "peaks_to_genes": peaks_to_genes,
}


@dataclass(frozen=True)
class Embedded:
    values_CD: np.ndarray  # float32, in the order of the sources and their cells
    notes: list[str]  # for people: what was loaded, what is covered


def embedder_of(pretrained: PretrainedFolder, config: Embedding) -> Embedder:
    objective = pretrained.config.objective
    if objective not in EMBEDDERS:
        raise InputError(
            f"{pretrained.path} was trained for {objective}, which embeds no cells; expected one "
            f"of {listed(EMBEDDERS)}."
        )
    return EMBEDDERS[objective](pretrained, config)


def embed(
    pretrained: PretrainedFolder,
    embedder: Embedder,
    sources: Sequence[CellSource],
    config: Embedding,
    process: Process,
) -> Embedded:
    """A vector for every cell, also for those that training's filters would leave out."""
    taken = take_weights(
        embedder.model, pretrained.folder.state, ("",), str(pretrained.folder.path)
    )
    model, notes, parts = embedder.model.to(process.device).eval(), taken.lines(), []
    for source in sources:
        ids, num_features, coverage = _aligned(pretrained, source, embedder.modality, config)
        measured = Measured(source.species, np.unique(ids[ids >= 0]))
        batch, num_empty = embedder.whole_cells(measured), 0
        for rows in source_rows(source, embedder.modality, ids, num_features):
            num_empty += int((np.diff(rows.starts) == 0).sum())
            parts.append(_embed_rows(model, rows, batch, config.batch_size, process))
        notes.append(coverage)
        if num_empty:
            what = MODALITIES[embedder.modality]
            notes.append(f"{num_empty} cells have no {what} that the model knows: <cls> alone")
    return Embedded(np.concatenate(parts), notes)


def _aligned(
    pretrained: PretrainedFolder, source: CellSource, modality: str, config: Embedding
) -> tuple[np.ndarray, int, str]:
    """Ids of a source's features, found by name; how many ids there are; and what is covered."""
    if modality not in source.features:
        raise InputError(
            f"{source.path} has no {modality}, from which {pretrained.path} embeds cells."
        )
    names = pretrained.names
    settings = names.settings.model_copy(update={"min_gene_match": config.min_gene_match})
    known, _ = feature_ids(source, names.vocabularies, settings)[modality]
    vocabulary = names.vocabularies.of(modality, source.species)
    used = kept_ids(
        *(pretrained.record, modality, source.species, known, names.vocabularies.digest)
    )
    here, what = len(np.unique(used[used >= 0])), f"{MODALITIES[modality]}s"
    of_model = int(pretrained.record.is_kept(modality, source.species).sum()) - len(
        set(names.vocabularies.special_tokens.names()) & set(vocabulary.ids)
    )
    text = (
        f"{file_names(source.path)}: {int((known >= 0).sum()):,} of {len(known):,} {what} are in "
        f"the vocabulary; {here:,} of the {of_model:,} {what} that the model learned are measured"
    )
    if here == 0:
        raise InputError(f"{text}. Expected some; are they of the same species?")
    return used, len(vocabulary), text


def _embed_rows(
    model: torch.nn.Module,
    rows: Rows,
    batch: Callable[[Rows], dict[str, np.ndarray]],
    batch_size: int,
    process: Process,
) -> np.ndarray:
    """Cells of about one length together, which pads little; handed back in their own order."""
    order, values = np.argsort(np.diff(rows.starts), kind="stable"), []
    with torch.inference_mode():
        for some in _parts(order, batch_size):
            made = to_device(batch(gathered(cells_of(rows), some)), process)
            values.append(model.embed(made).float().cpu().numpy())
    values_BD = np.concatenate(values)
    ordered_BD = np.empty_like(values_BD)
    ordered_BD[order] = values_BD
    return ordered_BD


def _parts(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), size):
        yield order[start : start + size]
