"""scConcept: two views of a cell on two gene panels, of one or several species."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from vcpipe.config.objectives.contrastive import Contrastive
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.feature_ids import aliases_of
from vcpipe.data.gene_embeddings import read_aligned
from vcpipe.data.panel_files import Panel, read_panels
from vcpipe.data.tokens.packing import Empty, specials
from vcpipe.data.tokens.panels import PanelSource, panel_source
from vcpipe.data.view_batches import ViewBatches, ViewedCells
from vcpipe.data.vocabularies import Vocabularies
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError, listed
from vcpipe.files import digest
from vcpipe.models.contrastive import ContrastiveModel
from vcpipe.objectives.contrastive import contrastive as loss
from vcpipe.training.checkpoints import ModelFolder, hash_tensor
from vcpipe.training.learners.learner import Learner, PreparedCells


def contrastive(cells: PreparedCells, config: Pretrain, empty: Empty) -> Learner:
    its, names = config.contrastive, cells.names.vocabularies
    species = cells.species("contrastive")
    viewed = viewed_cells(cells, its)
    vectors = pretrained_vectors(cells, species) if its.pretrained_embeddings else None
    num_tokens = {name: len(names.genes[name]) for name in species}
    return Learner(
        model=ContrastiveModel(config.model, its, list(num_tokens.values()), vectors),
        loss=partial(loss, config=its),
        batches=partial(ViewBatches, viewed, config, empty=empty),
        vocabulary=joint_vocabulary(names, species),
        args={
            "input_style": its.input_encoding,
            "max_seq_len": its.panels.max_tokens,
            "species": num_tokens,
            "mask_value": int(viewed.special.mask_value),
            "pad_value": int(viewed.special.pad_value),
        },
        compares_cells=True,
        notes=[source.note for source in viewed.panels if source.note],
        data={
            "panels_digest": digest([_content(source) for source in viewed.panels]),
            "gene_embeddings_digest": None if vectors is None else hash_tensor(vectors),
        },
    )


def viewed_cells(cells: PreparedCells, config: Contrastive) -> ViewedCells:
    """What the views of a store's cells are made with."""
    store, names = cells.store, cells.names.vocabularies
    species = cells.species("contrastive")
    special = {specials(names.genes[name].ids, names.special_tokens) for name in species}
    assert len(special) == 1, "special tokens have the same ids in all species"
    panels = {
        name: _panels(names, name, config, cells.names.settings.gene_aliases) for name in species
    }
    measured = store.measured["rna"]
    of_dataset = {name: store.manifest["datasets"][name]["species"] for name in sorted(measured)}
    return ViewedCells(
        special.pop(),
        cells.record.fit,
        max(len(names.genes[name]) for name in species),
        list(of_dataset),
        [
            panel_source(name, measured[name], panels[its], config.panels)
            for name, its in of_dataset.items()
        ],
        np.array([species.index(its) for its in of_dataset.values()], dtype=np.int64),
    )


def _panels(
    names: Vocabularies, species: str, config: Contrastive, gene_aliases: bool
) -> list[Panel]:
    if config.panels.folder is None:
        return []
    folder, ids = Path(config.panels.folder), names.genes[species].ids
    gene_ids = {number: ids[name] for name, number in names.gene_ids.get(species, {}).items()}
    aliases = aliases_of(species, names.gene_ids.get(species, {})) if gene_aliases else None
    return read_panels(folder, species, ids, gene_ids, aliases)


def _content(source: PanelSource) -> list:
    return [[panel.name, panel.genes.tolist()] for panel in source.panels]


def pretrained_vectors(cells: PreparedCells, species: list[str]) -> torch.Tensor:
    """What build_vocabulary aligned, of all species one below the other; 0: a gene has none."""
    folder = cells.names.embeddings
    if folder is None:
        raise InputError(
            "contrastive.pretrained_embeddings is true, but the vocabulary has no vectors of "
            "genes; name preprocess.<corpus>.vocabulary.gene_embeddings and rerun "
            "build_vocabulary."
        )
    found = {
        name: read_aligned(folder / f"{name}.safetensors", cells.names.vocabularies.genes[name])[0]
        for name in species
    }
    widths = {name: vectors.shape[1] for name, vectors in found.items()}
    if len({*widths.values()}) > 1:
        shown = listed(f"{name} {width}" for name, width in widths.items())
        raise InputError(
            f"The vectors in {folder} have different widths ({shown}); expected one "
            "model's for all species. Correct vocabulary.gene_embeddings."
        )
    return torch.from_numpy(np.concatenate(list(found.values())))


def joint_vocabulary(names: Vocabularies, species: list[str]) -> Vocabulary:
    """Rows of the model's table: of several species a gene is called human:TP53."""
    if len(species) == 1:
        return names.genes[species[0]]
    special, ids, first = {*names.special_tokens.names()}, {}, 0
    for name in species:
        for gene, number in names.genes[name].ids.items():
            is_shared = gene in special and name == species[0]
            ids[gene if is_shared else f"{name}:{gene}"] = first + number
        first += len(names.genes[name])
    return Vocabulary(ids)


def read_contrastive(folder: ModelFolder) -> ContrastiveModel:
    """The model of a folder that pretraining wrote, with its weights."""
    model = model_of_folder(folder)
    model.load_state_dict(folder.state)
    return model.eval()


def model_of_folder(folder: ModelFolder) -> ContrastiveModel:
    """The model of a folder that pretraining wrote, with new weights."""
    config = Pretrain.model_validate(folder.about["config"])
    vectors = folder.state.get("encoder.pretrained")
    sizes = folder.args["species"]
    return ContrastiveModel(
        config.model, config.contrastive, [sizes[name] for name in sorted(sizes)], vectors
    )
