import pickle
from pathlib import Path

import pytest

from vcpipe.data.gene_ontology import read_go_genes
from vcpipe.errors import InputError

TERMS = {"GENE01": {"GO:1", "GO:2"}, "GENE02": frozenset({"GO:2"}), "GENE03": set()}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_genes_are_the_keys_of_the_dictionary(tmp_path, protocol):
    path = tmp_path / "gene2go_all.pkl"
    path.write_bytes(pickle.dumps(TERMS, protocol))
    assert read_go_genes(path) == {"GENE01", "GENE02", "GENE03"}


class Touch:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_in_the_pickle_is_called(tmp_path, protocol):
    path, trace = tmp_path / "gene2go_all.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps({"GENE01": Touch(trace)}, protocol))
    with pytest.raises(InputError, match=r"cannot be read: it names .*Pickle \{gene: set"):
        read_go_genes(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<html>404</html>", "cannot be read"),
        (b"", "cannot be read"),
        (pickle.dumps(["GENE01"]), "holds a list"),
        (pickle.dumps({"GENE01": ["GO:1"]}), "has the entry 'GENE01': list"),
        (pickle.dumps({1: {"GO:1"}}), "has the entry 1: set"),
    ],
)
def test_other_files_are_refused(tmp_path, content, found):
    path = tmp_path / "gene2go_all.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=found):
        read_go_genes(path)
