"""A converted screen is what convert_to_gears wrote, or is refused."""

import json

import anndata as ad
import h5py
import numpy as np
import pytest

from vcpipe.data.screen import open_screen
from vcpipe.errors import InputError


@pytest.fixture
def rewritten(screen, tmp_path):
    """Write what a user makes of the converted screen with anndata: rewritten(lambda cells: ...)"""

    def write(change):
        changed = change(ad.read_h5ad(screen.path))
        changed.write_h5ad(tmp_path / "changed.h5ad")
        return tmp_path / "changed.h5ad"

    return write


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda cells: cells[np.roll(np.arange(len(cells)), 3)].copy(), "cells"),
        (lambda cells: cells[:80].copy(), "cells"),
        (lambda cells: cells[:, ::-1].copy(), "genes"),
        (lambda cells: cells[:, 1:].copy(), "genes"),
    ],
)
def test_other_rows_or_columns_than_were_converted_are_refused(rewritten, change, what):
    with pytest.raises(InputError, match=rf"\(its {what} are other or in another order\); convert"):
        open_screen(rewritten(change))


def test_a_screen_that_does_not_say_which_cells_it_holds_is_refused(rewritten):
    def forget(cells):
        about = json.loads(cells.uns["vcpipe"])
        del about["cells_digest"]
        cells.uns["vcpipe"] = json.dumps(about)
        return cells

    with pytest.raises(InputError, match=r"by an earlier convert_to_gears \(.*no cells_digest\)"):
        open_screen(rewritten(forget))


def dense(cells):
    cells.X = cells.X.toarray()
    return cells


def without_counts(cells):
    del cells.layers["counts"]
    return cells


@pytest.mark.parametrize(
    ("change", "shown"), [(dense, "X is array"), (without_counts, "layers/counts is absent")]
)
def test_a_matrix_in_another_layout_is_refused(rewritten, change, shown):
    with pytest.raises(InputError, match=rf"\({shown}, not csr_matrix\); convert again"):
        open_screen(rewritten(change))


def test_a_truncated_screen_is_refused(screen):
    content = screen.path.read_bytes()
    screen.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"is truncated: .*; rerun convert_to_gears\."):
        open_screen(screen.path)


def test_a_screen_whose_names_are_damaged_is_refused(screen):
    with h5py.File(screen.path) as file:
        place = file["obs/_index"].id.get_offset()
        size = file["obs/_index"].id.get_storage_size()
    with screen.path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * size)
    with pytest.raises(InputError, match=r"is damaged \(.*; rerun convert_to_gears\."):
        open_screen(screen.path)


@pytest.mark.parametrize(("make", "shown"), [("touch", "is empty"), ("mkdir", "is a folder")])
def test_what_is_no_file_with_content_is_refused(tmp_path, make, shown):
    getattr(tmp_path / "screen.h5ad", make)()
    with pytest.raises(InputError, match=shown):
        open_screen(tmp_path / "screen.h5ad")
