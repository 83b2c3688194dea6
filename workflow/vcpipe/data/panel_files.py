"""Gene panels of assays, as scConcept keeps them: <folder>/<species>/<panel>.csv, Ensembl_ID."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.data.gene_names import Aliases, ensembl_id, genes_behind
from vcpipe.errors import InputError, listed

COLUMN = "Ensembl_ID"


@dataclass(frozen=True)
class Panel:
    name: str
    genes: np.ndarray  # int32: ids of the vocabulary, ascending
    num_listed: int  # genes in the file, known or not

    @property
    def hit_rate(self) -> float:
        """The share of the file's genes that the vocabulary holds."""
        return len(self.genes) / self.num_listed


def read_panels(
    folder: Path,
    species: str,
    vocabulary: Mapping[str, int],
    gene_ids: Mapping[str, int],
    aliases: Aliases | None = None,
) -> list[Panel]:
    """Read the panels of one species, sorted by name.

    `vocabulary` gives ids by name, `gene_ids` by Ensembl id where that is not the name; `aliases`
    lead from an Ensembl id to a human symbol. Versions of Ensembl ids do not matter.
    """
    known: dict[str, int] = {}
    for spelling, number in [*vocabulary.items(), *gene_ids.items()]:
        known.setdefault(_plain(spelling), number)
    panels = []
    for path in panel_files(Path(folder), species):
        names = _read_names(path)
        ids = {_id_of(name, known, aliases or {}) for name in names} - {-1}
        if not ids:
            raise InputError(
                f"{path}: none of its {len(names)} genes ({listed(names, 3)}) is in the vocabulary "
                f"of {species}; remove the file, or give the vocabulary Ensembl ids."
            )
        panels.append(Panel(path.stem, np.array(sorted(ids), np.int32), len(names)))
    return panels


def panel_files(folder: Path, species: str) -> list[Path]:
    """The CSV files of a species; none is an error, whatever lies beside them."""
    found = sorted((folder / species).glob("*.csv"))
    if found:
        return found
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected panels in {folder}/{species}/*.csv.")
    flat = [path.name for path in sorted(folder.glob("*.csv"))]
    others = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
    if flat:
        # huggingface_hub's download by file name leaves the folder of the species out.
        hint = f"{listed(flat, 3)} lie in {folder} itself; move those of {species} there."
    elif others:
        hint = f"There are folders for {listed(others)}; name the folder as the species."
    else:
        hint = "Put them there, or set panel_selection: random."
    raise InputError(f"{folder / species} has no panel (*.csv). {hint}")


def hit_rates(panels: Iterable[Panel]) -> pd.DataFrame:
    """Genes of each panel's file, how many of them the vocabulary holds, and their share."""
    rows = [(panel.name, panel.num_listed, len(panel.genes), panel.hit_rate) for panel in panels]
    return pd.DataFrame(rows, columns=["panel", "num_genes", "num_known", "hit_rate"])


def _read_names(path: Path) -> list[str]:
    """The distinct genes of a file, in its order, without the versions of their ids."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no CSV ({error}); expected a column {COLUMN}.") from error
    if COLUMN not in table:
        raise InputError(f"{path} has the columns {listed(table)}; expected {COLUMN}.")
    names = list(dict.fromkeys(_plain(name.strip()) for name in table[COLUMN] if name.strip()))
    if not names:
        raise InputError(f"{path} lists no gene in its column {COLUMN}; fill it, or remove it.")
    return names


def _plain(name: str) -> str:
    return ensembl_id(name) or name


def _id_of(name: str, known: Mapping[str, int], aliases: Aliases) -> int:
    """A gene's id, by its name or by the one symbol that stands for it; -1: none."""
    if name in known:
        return known[name]
    ids = {known[symbol] for symbol in genes_behind(name, aliases) if symbol in known}
    return ids.pop() if len(ids) == 1 else -1
