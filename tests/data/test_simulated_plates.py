"""Simulated plates: Tahoe's columns, sorted by drug, a function of their settings."""

import anndata as ad
import numpy as np
import pytest

from vcpipe.config.loader import TASKS, SimulatedPlates
from vcpipe.data.simulated_plates import (
    BLOCK,
    CONTROL,
    UNCLEAR,
    deal_drugs,
    draw_cells,
    draw_counts,
    plan_plates,
    write_plates,
)

SMALL = {"num_plates": 4, "cells_per_plate": 300, "num_genes": 80, "num_drugs": 9, "num_moas": 4}


@pytest.fixture(scope="module")
def plates(tmp_path_factory) -> list[ad.AnnData]:
    folder = tmp_path_factory.mktemp("plates")
    paths = write_plates(folder, SimulatedPlates(**SMALL))
    assert [path.name for path in paths] == [f"plate{n}.h5ad" for n in (1, 2, 3, 4)]
    return [ad.read_h5ad(path) for path in paths]


def test_a_plate_is_called_as_tahoes_are(plates):
    for number, plate in enumerate(plates, start=1):
        assert list(plate.obs) == ["plate", *TASKS]
        assert all(plate.obs[column].dtype == "category" for column in plate.obs)
        assert set(plate.obs["plate"]) == {f"plate{number}"}
        assert plate.X.format == "csr"
        assert plate.X.dtype == np.float32
        assert (plate.X.data == np.round(plate.X.data)).all()
    control = plates[0].obs[plates[0].obs["drug"] == CONTROL]
    assert len(control)
    assert set(control["moa-fine"]) == set(control["moa-broad"]) == {UNCLEAR}


def test_names_of_cells_are_a_plates_own(plates):
    names = np.concatenate([plate.obs_names for plate in plates])
    assert len(set(names)) == len(names)


def test_cells_of_a_drug_lie_together(plates):
    for plate in plates:
        drugs = plate.obs["drug"].astype(str).to_numpy()
        changes = (drugs[1:] != drugs[:-1]).sum()
        assert changes == len(set(drugs)) - 1


def test_cell_lines_are_mixed_within_a_drug(plates):
    lines = plates[0].obs["cell_line"].astype(str).to_numpy()
    assert (lines[1:] != lines[:-1]).mean() > 0.5


def test_plates_have_drugs_of_their_own_and_the_last_ones_repeat_all():
    config = SimulatedPlates(**SMALL)
    first, second, *last = deal_drugs(config)
    common = set(range(config.common_drugs))
    assert set(first) & set(second) == common
    assert set(first) | set(second) == set(range(config.num_drugs))
    assert all(set(plate) == set(first) | set(second) for plate in last)


def test_each_drug_has_one_mechanism_and_each_mechanism_a_drug():
    plan = plan_plates(SimulatedPlates(**SMALL))
    assert len(set(plan.moa_fine_D)) == SMALL["num_moas"]
    broad = dict(zip(plan.moa_fine_D, plan.moa_broad_D, strict=True))
    assert [broad[fine] for fine in plan.moa_fine_D] == list(plan.moa_broad_D)


def test_combinations_differ_in_size_as_the_skew_says():
    even = plan_plates(SimulatedPlates(**SMALL, skew=1)).share_LD
    skewed = plan_plates(SimulatedPlates(**SMALL, skew=600)).share_LD
    assert even.max() == even.min()
    assert 100 < skewed.max() / skewed.min() <= 600


def test_cells_do_not_depend_on_how_many_are_written_at_once():
    plan = plan_plates(SimulatedPlates(**SMALL))
    line_C, drug_C = draw_cells(plan, 1)
    again = draw_cells(plan_plates(SimulatedPlates(**SMALL)), 1)
    assert np.array_equal(line_C, again[0])
    last = draw_counts(plan, 1, 1, line_C, drug_C)
    assert last.shape == (SMALL["cells_per_plate"] - BLOCK, SMALL["num_genes"])
    assert (last != draw_counts(plan, 1, 1, line_C, drug_C)).nnz == 0


def test_another_seed_gives_other_cells():
    one, other = (plan_plates(SimulatedPlates(**SMALL, seed=seed)) for seed in (1, 2))
    assert not np.array_equal(draw_cells(one, 1)[0], draw_cells(other, 1)[0])


def test_cell_lines_differ_more_than_drugs_and_drugs_of_a_mechanism_are_alike():
    plan = plan_plates(SimulatedPlates(num_genes=400))
    assert plan.log_line_LG.std() > 2 * plan.log_drug_DG[1:].std()
    assert not plan.log_drug_DG[0].any()
    similarity = np.corrcoef(plan.log_drug_DG[1:])
    same = plan.moa_fine_D[1:, None] == plan.moa_fine_D[1:]
    other_drug = ~np.eye(len(same), dtype=bool)
    assert similarity[same & other_drug].mean() > similarity[~same].mean() + 0.3
