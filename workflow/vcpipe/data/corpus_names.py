"""The names that a corpus is learned with, as build_vocabulary and trained models keep them."""

from dataclasses import dataclass
from pathlib import Path

from vcpipe.config.vocabulary import Vocabulary as VocabularySettings
from vcpipe.data.vocabularies import Vocabularies
from vcpipe.data.vocabulary_files import read_vocabularies, write_vocabularies
from vcpipe.files import read_json, write_json, writing


@dataclass(frozen=True)
class Names:
    """A folder of build_vocabulary: the names, and how those of sources are matched with them."""

    vocabularies: Vocabularies
    settings: VocabularySettings
    embeddings: Path | None = None  # folder of pretrained vectors of genes, where there are some


def read_names(folder: Path) -> Names:
    settings = read_json(folder / "settings.json", "the folder that build_vocabulary writes")
    return Names(
        read_vocabularies(folder),
        VocabularySettings.model_validate(settings),
        folder / "embeddings" if (folder / "embeddings").exists() else None,
    )


def write_names(folder: Path, names: Names) -> None:
    """What read_names reads, without the tables for people."""
    with writing(folder) as partial:
        write_vocabularies(partial, names.vocabularies)
        write_json(partial / "settings.json", names.settings.model_dump(mode="json"))
