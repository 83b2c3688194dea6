"""A pretraining run that starts from the weights of a folder instead of from drawn ones."""

from torch import nn

from vcpipe.config.pretrain import Pretrain
from vcpipe.data.corpus_names import Names, read_names
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError, listed
from vcpipe.models.weights import NO_ROW, Taken, rows_by_name, take_weights
from vcpipe.training.checkpoints import ModelFolder, check_architecture


def start_from(
    folder: ModelFolder, model: nn.Module, vocabulary: Vocabulary, names: Names, config: Pretrain
) -> Taken:
    """Copy all weights of a folder into a model that was built for a run."""
    check_architecture(folder, config.objective, config.model)
    rows = {}
    if config.pretrained_vocabulary == "remap":
        rows = _rows(folder, model, vocabulary)
    else:
        _check_same_names(folder, vocabulary, names)
    return take_weights(model, folder.state, ("",), str(folder.path), rows)


def _rows(folder: ModelFolder, model: nn.Module, vocabulary: Vocabulary) -> dict:
    """Of each table of genes, which row of the folder's has the same name."""
    tables = getattr(model, "gene_tables", ())
    if not tables:
        raise InputError(
            f"pretrained_vocabulary is remap, but {type(model).__name__} has no table of genes "
            "that can be filled by name; expected same, and a corpus with the folder's vocabulary."
        )
    row_of = rows_by_name(vocabulary.ids, folder.vocabulary.ids)
    found = [name for name, row in zip(vocabulary.names(), row_of, strict=True) if row != NO_ROW]
    if not any(not name.startswith("<") for name in found):
        raise InputError(
            f"The vocabulary of {folder.path} knows none of the {len(vocabulary)} genes of this "
            f"corpus; it has {listed(folder.vocabulary.ids, 4)}, the corpus "
            f"{listed(vocabulary.ids, 4)}. Are they of the same species, and symbols in both?"
        )
    return dict.fromkeys(tables, row_of)


def _check_same_names(folder: ModelFolder, vocabulary: Vocabulary, names: Names) -> None:
    """Refuse tables whose rows would mean other genes or peaks."""
    ours, pairs = names.vocabularies, {"vocab.json": (folder.vocabulary, vocabulary)}
    if (folder.path / "vocabulary").exists():
        its = read_names(folder.path / "vocabulary").vocabularies
        pairs |= {
            f"the vocabulary of {species}": (its.genes.get(species), genes)
            for species, genes in ours.genes.items()
        }
        pairs["the vocabulary of peaks"] = its.peaks, ours.peaks
    for what, (found, expected) in pairs.items():
        # Peaks, or a species, that only one of both has meet no table of the other's.
        if found is not None and expected is not None and found.digest != expected.digest:
            raise InputError(
                f"{folder.path} expects {what} {found.digest} ({len(found)} tokens), but that of "
                f"the corpus is {expected.digest} ({len(expected)} tokens). Give the corpus the "
                "folder's (preprocess.<corpus>.vocabulary), or set pretrained_vocabulary: remap."
            )
