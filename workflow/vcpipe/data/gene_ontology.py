"""The gene2go_all.pkl that GEARS is given: a pickled dictionary gene -> set of GO terms."""

import builtins
import pickle
from pathlib import Path

from vcpipe.config.gears import PERTURBED, CellGraphs
from vcpipe.errors import InputError
from vcpipe.files import existing

CONTAINERS = ("dict", "set", "frozenset", "list")


def counted_genes(config: CellGraphs) -> set[str] | None:
    """The genes that pert_idx counts, as far as GEARS has them; None: the perturbed genes."""
    if config.layout == "0.0.2" or config.gene2go == PERTURBED:
        return None
    if config.gene2go is None:
        raise InputError(
            "gears.cell_graphs.gene2go is not set, so pert_idx would mean other genes to GEARS. "
            "Set it to the gene2go_all.pkl in the folder that GEARS's PertData is given (it is "
            f"downloaded there), or to {PERTURBED!r} where something else reads the graphs."
        )
    return read_go_genes(Path(config.gene2go))


def read_go_genes(path: Path) -> set[str]:
    """The genes of a gene2go_all.pkl; nothing in it is executed."""
    with existing(path, "GEARS's gene2go_all.pkl").open("rb") as file:
        try:
            terms = _Containers(file).load()
        except Exception as error:
            raise InputError(_unexpected(path, f"cannot be read: {error}")) from error
    if not isinstance(terms, dict):
        raise InputError(_unexpected(path, f"holds a {type(terms).__name__}"))
    for gene, of_gene in terms.items():
        if not isinstance(gene, str) or not isinstance(of_gene, set | frozenset):
            entry = f"{gene!r}: {type(of_gene).__name__}"
            raise InputError(_unexpected(path, f"has the entry {entry}"))
    return set(terms)


class _Containers(pickle.Unpickler):
    """Reads text in built-in containers only: a pickle can call whatever it names."""

    def find_class(self, module: str, name: str) -> type:
        if module in ("builtins", "__builtin__") and name in CONTAINERS:
            return getattr(builtins, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _unexpected(path: Path, found: str) -> str:
    return (
        f"{path} {found}; expected GEARS's gene2go_all.pkl, a pickled dictionary gene -> set of GO "
        "terms of built-in types alone. Pickle {gene: set(terms)} of plain text."
    )
