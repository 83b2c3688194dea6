import json

import pytest

from vcpipe.data.vocabulary import (
    build_vocabulary,
    check_match,
    read_vocabulary,
)
from vcpipe.errors import InputError

SPECIAL = ["<cls>", "<pad>", "<eoc>"]


def test_ids_do_not_depend_on_the_order_of_genes():
    one, other = build_vocabulary(["B", "A", "C"], SPECIAL), build_vocabulary("CBAB", SPECIAL)
    assert one == other
    assert one.ids == {"<cls>": 0, "<pad>": 1, "<eoc>": 2, "A": 3, "B": 4, "C": 5}
    assert one.digest == other.digest


def test_an_unknown_gene_is_minus_one_and_never_padding():
    assert build_vocabulary("AB", SPECIAL).encode(["B", "X"]).tolist() == [4, -1]


def test_a_gene_named_like_a_special_token_is_refused():
    with pytest.raises(InputError, match="<cls> are names in the data and special tokens"):
        build_vocabulary(["A", "<cls>"], SPECIAL)


def test_padding_and_cls_are_required():
    with pytest.raises(InputError, match="special_tokens lacks <cls>"):
        build_vocabulary("AB", ["<pad>", "<eoc>"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"A": 0, "<pad>": 1, "<cls>": 3}, "ids are not 0..2"),
        ({"A": 0, "<pad>": 0, "<cls>": 1}, "ids are not 0..2"),
        ({"A": "0"}, "object of gene: integer id"),
        (["A"], "object of gene: integer id"),
        ({"A": 0, "B": 1}, "lacks <pad>, <cls>"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path, content, message):
    (tmp_path / "vocab.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_vocabulary(tmp_path / "vocab.json")


def test_a_vocabulary_that_knows_too_few_genes_is_refused_with_the_share():
    known = build_vocabulary("AB", SPECIAL).encode("ABCD")
    check_match("ABCD", known, 0.5, "it")
    with pytest.raises(InputError, match=r"it knows 50\.0% of 4 genes.*It lacks C, D"):
        check_match("ABCD", known, 0.6, "it")
