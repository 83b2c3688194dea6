"""EpiFoundation's cell embedding, of a cell's open peaks alone."""

from collections.abc import Callable

import numpy as np

from vcpipe.config.eval import Embedding
from vcpipe.data.draws import Draw
from vcpipe.data.paired_batches import chromosomes_of
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.packing import specials
from vcpipe.data.tokens.paired_peaks import peaks_alone
from vcpipe.training.embedders.embedder import Embedder, Measured, PretrainedFolder
from vcpipe.training.learners.peaks_to_genes import model_of


def peaks_to_genes(pretrained: PretrainedFolder, config: Embedding) -> Embedder:
    folder, names = pretrained.folder, pretrained.names.vocabularies
    (species,) = names.genes
    tokenizer = pretrained.config.tokenizer
    if config.max_genes is not None:
        tokenizer = tokenizer.model_copy(update={"atac_max_len": config.max_genes})
    special = specials(names.of("atac", species).ids, names.special_tokens)
    chromosomes = chromosomes_of(names, species)
    draw = Draw(pretrained.config.training.seed, 0)

    def of_source(measured: Measured) -> Callable[[Rows], dict[str, np.ndarray]]:
        del measured  # an absent peak is no token

        def batch(rows: Rows) -> dict[str, np.ndarray]:
            return peaks_alone(
                *(rows, chromosomes, special.cls_id, special.pad_id, tokenizer, draw)
            )

        return batch

    genes = folder.state["genes"].numpy()
    return Embedder(model_of(names, species, pretrained.config, genes), of_source, "atac")
