"""Published lists of target genes become val and test."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from scripts.split_perturbations import main
from vcpipe.config.reading import PROJECT
from vcpipe.config.splits import Split
from vcpipe.data.screen import Screen
from vcpipe.data.splits import draw_split, remarks
from vcpipe.data.target_lists import Target, read_target_list, read_targets
from vcpipe.errors import InputError

VCC = PROJECT.parent / "shared" / "data" / "vcc" / "pert_counts_Validation.csv"
PERTURBATIONS = ["NA+ctrl", "B+ctrl", "C+ctrl", "B+C"]


@pytest.fixture
def screen() -> Screen:
    """Three cells of each perturbation, and two controls."""
    condition = np.array([*PERTURBATIONS * 3, "ctrl", "ctrl"])
    return Screen(
        path=Path("screen.h5ad"),
        genes=np.array(["B"]),
        cells=np.array([f"cell{number}" for number in range(len(condition))]),
        condition=condition,
        batch=np.full(len(condition), "b0"),
        cell_type=np.full(len(condition), "K562"),
        about={},
    )


@pytest.fixture
def published(tmp_path):
    """Write lists and give the settings that read them: published(test="B\\n", val=...)."""

    def write(absent_targets: str = "error", **texts: str) -> Split:
        paths = {f"{name}_list": tmp_path / f"{name}.csv" for name in texts}
        for path, text in zip(paths.values(), texts.values(), strict=True):
            path.write_text(text)
        lists = {key: str(path) for key, path in paths.items()}
        return Split(method="published", absent_targets=absent_targets, **lists)

    return write


@pytest.mark.parametrize(
    "text",
    [
        "target_gene,n_cells,median_umi_per_cell\nNA,3,54551.0\nC,3,1.5\n",
        '"target_gene","n_cells"\r\n"NA","3"\r\n"C","3"\r\n',
        "NA\nC",
        "\ufeffNA\r\n\r\nC\r\n",
        "n_cells\tcondition\n3\tNA+ctrl\n3\tctrl+C\n",
        "target_gene\nNA\nC\n",
    ],
)
def test_listed_targets_are_held_out_whatever_the_form_of_the_list(screen, published, text):
    config = published(test=text)
    split, subgroups = draw_split(screen, config)
    assert split.conditions("test") == ["NA+ctrl", "C+ctrl"]
    assert split.conditions("train") == ["B+ctrl", "B+C"]
    assert subgroups == {}
    assert remarks(config, split) == []


def test_a_combination_that_is_not_listed_stays_in_train_and_the_subgroup_says_so(
    screen, published
):
    split, _ = draw_split(screen, published(test="C\n", val="NA\n"))
    assert split.sets["NA+ctrl", ""] == "val"
    assert split.subgroup["C+ctrl", ""] == "seen_single"
    assert split.subgroup["NA+ctrl", ""] == "unseen_single"
    assert draw_split(screen, published(test="C+B\n"))[0].conditions("test") == ["B+C"]


def test_absent_targets_stop_the_split_or_are_named(screen, published):
    with pytest.raises(
        InputError, match=r"names X\+ctrl, Y\+ctrl, which the converted screen lacks"
    ):
        draw_split(screen, published(test="B\nX\nY\n"))
    config = published(test="B\nX\nY\n", absent_targets="ignore")
    split, _ = draw_split(screen, config)
    assert split.conditions("test") == ["B+ctrl"]
    (remark,) = remarks(config, split)
    assert remark.endswith("test.csv: ignored, the screen lacks them: X+ctrl, Y+ctrl")
    with pytest.raises(InputError, match="names 1 targets, and the screen has none of them"):
        draw_split(screen, published(test="X\n", absent_targets="ignore"))


def test_other_numbers_of_cells_are_printed(screen, published, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vcpipe.data.screen.open_screen", lambda path: screen)
    config = published(val="target_gene,n_cells\nB,3\nC,2925\n")
    names = [f"--{name}={tmp_path / name}" for name in ("table", "pickle", "subgroup")]
    main(["--cells=x.h5ad", *names, "--config", config.model_dump_json()])
    text = capsys.readouterr().out
    assert "published: 2 train, 2 val, 0 test, 0 unused" in text
    assert "val.csv: other numbers of cells in the screen: C+ctrl (2925, here 3)" in text


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"test": "B\nC\n", "val": "NA\nC\n"}, r"test.csv and .*val.csv both name C\+ctrl"),
        ({"test": "B\nB\n"}, r"names B\+ctrl twice"),
        ({"test": "non-targeting\n"}, "names non-targeting; leave it out: controls are"),
        ({"test": "ctrl\n"}, "names ctrl; leave it out: controls are always in train"),
        ({"test": ""}, "begins with ''; expected target genes: a CSV or TSV with a column"),
        ({"test": "gene,n_cells\nB,3\n"}, "begins with 'gene,n_cells'; expected target genes"),
        ({"test": "NA\nB\nC\nB+C\n"}, "leave train empty: all 4 perturbations"),
    ],
)
def test_a_wrong_list_is_refused(screen, published, texts, message):
    with pytest.raises(InputError, match=message):
        draw_split(screen, published(**texts))


def test_a_list_that_is_not_there_is_named(screen):
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist; expected target genes"):
        draw_split(screen, Split(method="published", test_list="nowhere.csv"))


def test_a_list_in_another_encoding_and_a_folder_are_refused(tmp_path):
    (tmp_path / "list.csv").write_bytes("target_gene\nB\n".encode("utf-16"))
    for path in (tmp_path / "list.csv", tmp_path):
        with pytest.raises(InputError, match=r"is no text in UTF-8 \(.*expected target genes"):
            read_targets(path)


@pytest.mark.skipif(not VCC.exists(), reason="the real list is not here")
def test_the_list_of_the_virtual_cell_challenge_is_read():
    targets = read_targets(VCC)
    assert len(targets) == 50
    assert targets["SH3BP4+ctrl"] == "2925"
    assert sum(map(int, targets.values())) == 60751


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "published"}, "needs test_list or val_list"),
        ({"test_list": "x.csv"}, "test_list is read by method published and not by simulation"),
        ({"absent_targets": "ignore"}, "absent_targets is read by method published"),
    ],
)
def test_settings_without_a_list_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Split(**settings)


@pytest.fixture
def target_list(tmp_path):
    """Read a list of this text."""

    def read(text: str) -> list[Target]:
        (tmp_path / "list.csv").write_text(text)
        return read_target_list(tmp_path / "list.csv")

    return read


def test_a_list_to_predict_says_how_many_cells_of_what_depth(target_list):
    head = "target_gene,n_cells,median_umi_per_cell"
    assert target_list(f"{head}\nB,3,54551.5\nC+A,2,\n") == [
        Target("B+ctrl", 3, 54551.5),
        Target("A+C", 2, None),
    ]
    assert target_list("condition\tn_cells\nB+ctrl\t7\n") == [Target("B+ctrl", 7)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("B\nC\n", "begins with 'B'; expected columns target_gene .* n_cells"),
        ("target_gene,cells\nB,3\n", "begins with 'target_gene,cells'; expected columns"),
        ("gene,n_cells\nB,3\n", "begins with 'gene,n_cells'; expected columns"),
        ("", "begins with ''; expected columns"),
        ("target_gene,n_cells\n", "lists no target; expected columns"),
        ("target_gene,n_cells\nB,3\nB+ctrl,4\n", r"names B\+ctrl twice"),
        ("target_gene,n_cells\nA+B,3\nB+A,4\n", r"names A\+B twice"),
        ("target_gene,n_cells\nB,0\n", r"n_cells '0' for B\+ctrl; expected a whole number, 1"),
        ("target_gene,n_cells\nB,-3\n", r"n_cells '-3' for B\+ctrl; expected a whole number"),
        ("target_gene,n_cells\nB,2.5\n", r"n_cells '2.5' for B\+ctrl; expected a whole number"),
        ("target_gene,n_cells\nB\n", r"n_cells '' for B\+ctrl; expected a whole number"),
        ("target_gene,n_cells\nnon-targeting,3\n", "names non-targeting; leave it out: its cells"),
        (
            "target_gene,n_cells,median_umi_per_cell\nB,3,nan\n",
            r"median_umi_per_cell 'nan' for B\+ctrl; expected a number above 0",
        ),
    ],
)
def test_a_wrong_list_to_predict_is_refused(target_list, text, message):
    with pytest.raises(InputError, match=message):
        target_list(text)
