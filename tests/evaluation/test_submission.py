"""What is handed in: checked before the challenge's tool runs, and looked up in what it made.

The tool itself is in an env of its own: tests/upstream/test_submissions.py.
"""

import io
import tarfile

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from scripts import fit_baseline, predict_perturbations
from tests.evaluation.conftest import GENES
from vcpipe.config.eval import Submission
from vcpipe.data.screen import open_screen
from vcpipe.errors import InputError
from vcpipe.evaluation.submission import (
    check_submission,
    package,
    refuse_another,
    unpack,
    write_cells,
    write_submission,
)

LIST = "target_gene,n_cells\nGENE40,3\nGENE02+GENE01,4\n"


@pytest.fixture
def predicted(simulate, tmp_path):
    """A screen, a list, and its cells as no_change predicts them."""
    files, targets = simulate(0.3), tmp_path / "list.csv"
    targets.write_text(LIST)
    held_out = (f"--cells={files.cells}", f"--split={files.split}", f"--controls={files.controls}")
    model, out = tmp_path / "no_change.npz", tmp_path / "predicted.h5ad"
    fit_baseline.main([*held_out, "--baseline=no_change", f"--out={model}"])
    what = (f"--model={model}", f"--targets={targets}", "--name=no_change", f"--out={out}")
    predict_perturbations.main([*held_out, *what])
    return open_screen(files.cells), targets, out


def packaged(predicted, genes=None, **settings):
    screen, targets, predictions = predicted
    return package(predictions, screen, targets, genes, Submission(**settings))


def tool(folder, cells, change=None):
    """A .vcc as the tool writes it, of these cells."""
    found = ad.read_h5ad(cells)
    minimal = ad.AnnData(found.X, found.obs, pd.DataFrame(index=found.var_names))
    if change is not None:
        minimal = change(minimal)
    minimal.write_h5ad(folder / "pred.h5ad")
    with pa.output_stream(folder / "packed", compression="zstd") as stream:
        stream.write((folder / "pred.h5ad").read_bytes())
    packed = (folder / "packed").read_bytes()
    return tar(folder, {"pred.h5ad.zst": packed, "watermark.txt": b"vcc-prep"})


def tar(folder, members: dict[str, bytes]):
    with tarfile.open(folder / "made.vcc", "w") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return folder / "made.vcc"


def test_predicted_cells_and_all_controls_are_handed_in_under_the_challenges_names(predicted):
    submitted = packaged(predicted)
    screen = predicted[0]
    labels = pd.Series(submitted.labels).value_counts()
    assert labels.to_dict() == {"GENE40": 3, "GENE01+GENE02": 4, "non-targeting": 200}
    values = np.vstack([part.toarray() for part in submitted.parts()])
    controls = screen.values(np.flatnonzero(screen.condition == "ctrl")).toarray()
    np.testing.assert_array_equal(values[7:], controls)


def test_fewer_controls_are_drawn_by_the_seed(predicted):
    first, second = (packaged(predicted, num_controls=20, seed=seed) for seed in (0, 1))
    again = packaged(predicted, num_controls=20, seed=0)
    assert len(set(first.control_rows)) == 20
    assert first.control_rows.tolist() == again.control_rows.tolist()
    assert first.control_rows.tolist() != second.control_rows.tolist()


def test_genes_stand_in_the_order_of_their_list(predicted, tmp_path):
    (tmp_path / "genes.csv").write_text("\n".join(reversed(GENES)))
    submitted = packaged(predicted, tmp_path / "genes.csv")
    assert submitted.genes.tolist() == GENES[::-1]
    forward, backward = (
        np.vstack([part.toarray() for part in its.parts()])
        for its in (packaged(predicted), submitted)
    )
    np.testing.assert_array_equal(backward, forward[:, ::-1])


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        ([*GENES, "OTHER"], "genes.csv names OTHER, which the screen lacks; expected the 60 genes"),
        (GENES[:-1], "genes.csv lacks GENE59 of the screen"),
        (["gene_name", *GENES[1:]], "names gene_name, which .* and lacks GENE00 of the screen"),
        ([*GENES, "GENE07"], "names GENE07 twice; expected every gene once"),
    ],
)
def test_other_genes_than_the_screens_are_refused(predicted, tmp_path, genes, message):
    (tmp_path / "genes.csv").write_text("\n".join(genes))
    with pytest.raises(InputError, match=message):
        packaged(predicted, tmp_path / "genes.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LIST.replace("40,3", "40,5"), r"other numbers of cells .*GENE40\+ctrl \(3 instead of 5\)"),
        (LIST + "GENE03,1\n", r"2 perturbations, without GENE03\+ctrl"),
        (LIST.replace("GENE40", "GENE41"), r"without GENE41\+ctrl and with GENE40\+ctrl too many"),
    ],
)
def test_predictions_of_another_list_are_refused(predicted, text, message):
    predicted[1].write_text(text)
    with pytest.raises(InputError, match=message):
        packaged(predicted)


def test_more_cells_than_the_challenge_takes_are_refused(predicted):
    with pytest.raises(
        InputError,
        match=r"7 predicted and 200 control cells are more than the 100 .*num_controls to 93",
    ):
        packaged(predicted, max_cells=100)
    with pytest.raises(InputError, match=r"7 predicted and 1 control cells .*; list fewer cells"):
        packaged(predicted, max_cells=7, num_controls=1)
    assert len(packaged(predicted, max_cells=100, num_controls=93).labels) == 100


def test_what_the_tool_made_is_looked_up(predicted, tmp_path):
    submitted, config = packaged(predicted), Submission()
    write_cells(tmp_path / "cells.h5ad", submitted)
    made = tool(tmp_path, tmp_path / "cells.h5ad")
    checks = check_submission(made, submitted, tmp_path, config)
    refuse_another(checks)
    found = {check.what: check.found for check in checks}
    assert found["genes"] == "60"
    assert found["targets"] == "2"
    assert found["control cells (non-targeting)"] == "200"
    assert found["values as predicted"] == "yes"


def other_value(cells: ad.AnnData) -> ad.AnnData:
    cells.X.data[5] += 0.5
    return cells


def of_64_bits(cells: ad.AnnData) -> ad.AnnData:
    cells.X = cells.X.astype(np.float64)
    return cells


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cells: cells[:-1].copy(), "cells: 206, not 207"),
        (lambda cells: cells[:, GENES[::-1]].copy(), "genes in the order of the list: no, not yes"),
        (lambda cells: cells[cells.obs["target_gene"] != "GENE40"].copy(), "targets: 1, not 2"),
        (lambda cells: cells[3:].copy(), "cells of each target: no"),
        (lambda cells: cells[:7].copy(), r"control cells \(non-targeting\): 0, not 200"),
        (of_64_bits, "type of values: float64, not float32"),
        (other_value, "values as predicted: no, not yes"),
    ],
)
def test_another_file_than_was_asked_for_is_refused(predicted, tmp_path, change, message):
    submitted = packaged(predicted)
    write_cells(tmp_path / "cells.h5ad", submitted)
    made = tool(tmp_path, tmp_path / "cells.h5ad", change)
    with pytest.raises(InputError, match=message):
        refuse_another(check_submission(made, submitted, tmp_path, Submission()))


def test_a_tar_without_its_parts_and_a_broken_one_are_refused(tmp_path):
    """The tool goes on where zstd has failed."""
    with pytest.raises(InputError, match=r"with watermark.txt in it, not pred.h5ad.zst, watermark"):
        unpack(tar(tmp_path, {"watermark.txt": b"vcc-prep"}), tmp_path)
    broken = {"pred.h5ad.zst": b"no zstd at all", "watermark.txt": b"vcc-prep"}
    with pytest.raises(InputError, match="cannot be opened"):
        unpack(tar(tmp_path, broken), tmp_path)
    (tmp_path / "made.vcc").write_bytes(b"no tar")
    with pytest.raises(InputError, match="cannot be opened"):
        unpack(tmp_path / "made.vcc", tmp_path)


def test_without_the_tool_nothing_is_left(predicted, tmp_path):
    """The main env lacks cell-eval."""
    out, checks = tmp_path / "out" / "x.vcc", tmp_path / "out" / "x.tsv"
    with pytest.raises(InputError, match=r"cell-eval prep failed .*No module named cell_eval"):
        write_submission(packaged(predicted), Submission(), out, checks)
    assert list(out.parent.iterdir()) == []
