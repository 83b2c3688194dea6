"""What was fitted on training cells, and is applied unchanged to all others: one JSON file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vcpipe.config.fitting import CellSplit, Filters, Fit
from vcpipe.data.training_cells import axis
from vcpipe.errors import InputError, listed
from vcpipe.files import digest, read_json, write_json

FORMAT = 1
DIGITS = 10  # of fitted numbers: as many as any processor agrees on


@dataclass(frozen=True)
class PreprocessingRecord:
    settings: dict  # fit, filters, and how the sets of cells were drawn
    vocabulary_digest: str
    num_features: dict[str, int]  # by axis: size of the vocabulary
    kept: dict[str, str]  # by axis: a bit for each id of the vocabulary, in hexadecimal
    dropped: dict[str, dict[str, int]]  # cells, and features by axis: how many, by reason
    num_cells: int  # that were fitted on
    hvgs: dict[str, list[str]]  # by axis of genes: the most variable first
    medians: dict[str, list[float | None]]  # by axis of genes and id: see gene_medians
    bin_edges: list[float]  # quantiles of all non-zero values, normalised and logged as set
    sources: dict[str, list[str]]  # by dataset: data digests of the files
    files: list[str]  # digests of all files, whatever their datasets are called

    @property
    def digest(self) -> str:
        """Of what was fitted: files with the same cells in another order give the same."""
        content = asdict(self)
        del content["sources"], content["files"]
        return digest(content)

    @property
    def fit(self) -> Fit:
        return Fit.model_validate(self.settings["fit"])

    @property
    def cell_split(self) -> CellSplit:
        return CellSplit.model_validate(self.settings["cell_split"])

    @property
    def filters(self) -> Filters:
        return Filters.model_validate(self.settings["filters"])

    def gene_medians(self, species: str) -> np.ndarray:
        """By gene id, of the non-zero training values: normalised as set, not logged.

        NaN for genes that no training cell has.
        """
        return np.array(self.medians[self._known("rna", species)], dtype=np.float64)

    def is_kept(self, modality: str, species: str) -> np.ndarray:
        """A mask over the ids of a vocabulary; special tokens are always kept."""
        of = self._known(modality, species)
        bits = np.frombuffer(bytes.fromhex(self.kept[of]), dtype=np.uint8)
        return np.unpackbits(bits, count=self.num_features[of]).astype(bool)

    def _known(self, modality: str, species: str) -> str:
        of = axis(modality, species)
        if of not in self.kept:
            raise InputError(
                f"The preprocessing record was fitted on {listed(self.kept)}, not on {of}; run "
                "fit_preprocessing on a corpus that has such cells."
            )
        return of

    def check_vocabulary(self, vocabulary_digest: str, where: str) -> None:
        if vocabulary_digest != self.vocabulary_digest:
            raise InputError(
                f"{where} has the digest {vocabulary_digest}, but the preprocessing record was "
                f"fitted with the vocabulary {self.vocabulary_digest}; ids would mean other "
                "features. Give the vocabulary of the record, or run fit_preprocessing again."
            )

    def write(self, path: Path) -> None:
        write_json(path, {"format": FORMAT, **asdict(self), "digest": self.digest})


def read_record(path: Path) -> PreprocessingRecord:
    what = "the record.json that fit_preprocessing writes"
    content = read_json(path, what)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise InputError(f"{path} has format {found!r}, not {FORMAT}; expected {what}.")
    written = content.pop("digest", None)
    del content["format"]
    try:
        record = PreprocessingRecord(**content)
    except TypeError as error:
        raise InputError(f"{path} is incomplete ({error}); expected {what}.") from error
    if record.digest != written:
        raise InputError(
            f"{path} was changed after it was written (its digest is {record.digest}, not "
            f"{written}); run fit_preprocessing again."
        )
    return record


def kept_ids(
    record: PreprocessingRecord,
    modality: str,
    species: str,
    feature_ids: np.ndarray,
    vocabulary_digest: str,
) -> np.ndarray:
    """Vocabulary ids of a source's features, -1 for those that the record drops."""
    record.check_vocabulary(vocabulary_digest, "The vocabulary")
    known = feature_ids >= 0
    keeps = np.zeros(len(feature_ids), dtype=bool)
    keeps[known] = record.is_kept(modality, species)[feature_ids[known]]
    return np.where(keeps, feature_ids, -1).astype(np.int32)


def as_bits(mask: np.ndarray) -> str:
    return np.packbits(mask).tobytes().hex()


def rounded(values: np.ndarray) -> list[float | None]:
    """Numbers for JSON, None for NaN."""
    return [
        None if np.isnan(value) else float(f"{value:.{DIGITS}g}")
        for value in np.asarray(values, dtype=np.float64)
    ]


def digests_of(pairs: Sequence[tuple[str, str]]) -> Mapping[str, list[str]]:
    """Data digests by dataset, both sorted."""
    return {name: sorted(of for one, of in pairs if one == name) for name, _ in sorted(pairs)}
