"""The parts of embedding that differ between objectives."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from vcpipe.config.atlases import Atlas, Matrix
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.corpus_names import Names, read_names
from vcpipe.data.preprocessing_record import PreprocessingRecord, read_record
from vcpipe.data.rows import Rows
from vcpipe.errors import InputError, listed
from vcpipe.training.checkpoints import ModelFolder, read_folder


@dataclass(frozen=True)
class PretrainedFolder:
    """A folder that pretraining wrote: weights, settings, and how its cells were prepared."""

    folder: ModelFolder
    config: Pretrain
    names: Names
    record: PreprocessingRecord

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def only_species(self) -> str:
        """Of models that learn one table of genes."""
        (species,) = self.names.vocabularies.genes
        return species

    @property
    def name(self) -> str:
        """What the run is called: results/pretrain/<run>/checkpoint, or any folder of its own."""
        path = self.path.resolve()
        return path.parent.name if path.name == "checkpoint" else path.name

    @property
    def about(self) -> dict[str, str]:
        """What tells this model from others."""
        about = self.folder.about
        named = ("objective", "config_digest", "vocabulary_digest", "record_digest", "code_version")
        return {"model_digest": self.folder.digest, **{name: about[name] for name in named}}

    def atlas_of(self, cells: Path, modality: str, species: str | None) -> Atlas:
        """The settings of a single file."""
        known = sorted(self.names.vocabularies.genes) or ["human"]
        if species is None and len(known) > 1:
            raise InputError(
                f"{self.path} knows genes of {listed(known)}; say which these cells have: --species"
            )
        return Atlas(**{modality: Matrix(paths=[str(cells)])}, species=species or known[0])


def read_pretrained(path: Path) -> PretrainedFolder:
    folder = read_folder(path)
    missing = [name for name in ("record.json", "vocabulary") if not (path / name).exists()]
    if missing or "config" not in folder.about:
        raise InputError(
            f"{path} lacks {listed(missing) or 'its settings (args.json)'}; cells can only be "
            "prepared as a model's own were, so expected a folder of pretrain. Of a finetuned "
            "model, give the folder that it was finetuned from."
        )
    names, record = read_names(path / "vocabulary"), read_record(path / "record.json")
    for what, digest in (
        ("names", names.vocabularies.digest),
        ("record", record.digest),
    ):
        if folder.about[f"{what}_digest"] != digest:
            raise InputError(
                f"{path} was trained with the {what} {folder.about[f'{what}_digest']}, but holds "
                f"{digest}; it was changed after training. Copy it again from where it was made."
            )
    return PretrainedFolder(folder, Pretrain.model_validate(folder.about["config"]), names, record)


@dataclass(frozen=True)
class Measured:
    """What is known of a source: whose genes it has, and which features it measured."""

    species: str
    ids: np.ndarray  # int32, ascending


@dataclass(frozen=True)
class Embedder:
    model: nn.Module  # with embed(batch) -> [B, D]
    # Of a source: its cells, whole -> the arrays of a batch.
    whole_cells: Callable[[Measured], Callable[[Rows], dict[str, np.ndarray]]]
    modality: str = "rna"
