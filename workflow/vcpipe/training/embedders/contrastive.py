"""scConcept's cell embedding: one view of a cell, all of its genes, the most expressed first."""

from collections.abc import Callable

import numpy as np

from vcpipe.config.eval import Embedding
from vcpipe.data.draws import Draw
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.packing import specials
from vcpipe.data.view_batches import padded_view, whole_view
from vcpipe.training.embedders.embedder import Embedder, Measured, PretrainedFolder
from vcpipe.training.learners.contrastive import model_of_folder


def contrastive(pretrained: PretrainedFolder, config: Embedding) -> Embedder:
    folder, names = pretrained.folder, pretrained.names.vocabularies
    species = sorted(folder.args["species"])
    special = specials(names.genes[species[0]].ids, names.special_tokens)
    num_genes = max(len(names.genes[name]) for name in species)
    panels = pretrained.config.contrastive.panels
    if config.max_genes is not None:
        panels = panels.model_copy(update={"max_tokens": config.max_genes})
    draw = Draw(pretrained.config.training.seed, 0)

    def of_source(measured: Measured) -> Callable[[Rows], dict[str, np.ndarray]]:
        number = species.index(measured.species)

        def batch(rows: Rows) -> dict[str, np.ndarray]:
            view = whole_view(rows, pretrained.record.fit, num_genes, panels, special, draw)
            return padded_view(view, special) | {"species": np.full(len(rows), number)}

        return batch

    return Embedder(model_of_folder(folder), of_source)
