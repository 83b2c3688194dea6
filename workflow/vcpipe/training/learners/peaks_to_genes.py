"""EpiFoundation: the values of genes from open peaks."""

from functools import partial

import numpy as np
import torch

from vcpipe.config.pretrain import Pretrain
from vcpipe.data.paired_batches import PairedBatches, asked_genes, chromosomes_of
from vcpipe.data.tokens.fitted import fitted_of
from vcpipe.data.tokens.packing import Empty, specials
from vcpipe.data.training_cells import axis
from vcpipe.data.vocabularies import Vocabularies
from vcpipe.errors import InputError, listed
from vcpipe.models.peaks_to_genes import PeaksToGenesModel, Vocabulary
from vcpipe.objectives.peaks_to_genes import peaks_to_genes as loss
from vcpipe.training.learners.learner import Learner, PreparedCells


def peaks_to_genes(cells: PreparedCells, config: Pretrain, empty: Empty) -> Learner:
    species, names = cells.only_species("peaks_to_genes"), cells.names.vocabularies
    store, tokenizer = cells.store, config.tokenizer
    if "atac" not in store.modalities:
        raise InputError(
            f"{store.path} holds {listed(store.modalities)} only; peaks_to_genes learns from peaks "
            "and genes of the same cells. Give its atlases rna and atac."
        )
    asked = asked_genes(store, tokenizer, _hvg_ids(cells, species))
    return Learner(
        model=model_of(names, species, config, asked.genes),
        loss=partial(loss, config=config.peaks_to_genes),
        batches=partial(
            *(PairedBatches, specials(names.of("atac", species).ids, names.special_tokens)),
            *(fitted_of(cells.record, species), names, chromosomes_of(names, species), asked),
            *(config,),
            empty=empty,
        ),
        vocabulary=names.genes[species],
        args={
            "n_bins": tokenizer.n_bins,
            "max_seq_len": tokenizer.atac_max_len,
            "mvc_decoder_style": config.peaks_to_genes.mvc_arch_style,
            "cell_emb_style": config.peaks_to_genes.cell_emb_style,
            "use_batch_labels": config.peaks_to_genes.use_batch_labels,
        },
    )


def model_of(
    names: Vocabularies, species: str, config: Pretrain, genes: np.ndarray
) -> PeaksToGenesModel:
    """The model with new weights; `genes` are ids of those that may be asked for.

    A folder holds them among its weights, as `genes`.
    """
    peaks = names.of("atac", species)
    its = chromosomes_of(names, species)
    vocabulary = Vocabulary(
        num_peaks=len(peaks),
        pad_id=specials(peaks.ids, names.special_tokens).pad_id,
        num_genes=len(names.genes[species]),
        num_chromosomes=len(names.chromosomes) + 1,
        num_batches=len(names.batches),
        num_cell_types=len(names.cell_types),
        genes_G=torch.from_numpy(np.asarray(genes, dtype=np.int64)),
        chromosomes_G=torch.from_numpy(its.of_genes[genes].astype(np.int64)),
    )
    return PeaksToGenesModel(
        *(config.model, config.peaks_to_genes, vocabulary),
        *(config.tokenizer.n_bins, config.training.seed),
    )


def _hvg_ids(cells: PreparedCells, species: str) -> np.ndarray | None:
    found = cells.record.hvgs.get(axis("rna", species))
    return cells.names.vocabularies.genes[species].encode(found) if found else None
