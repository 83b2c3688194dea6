"""GEARS's dictionaries of our conversions, made by cell-gears 0.1.2 from the same X and labels."""

import json

import anndata as ad
import numpy as np
import pytest

from tests.rankings import (
    SCREENS,
    TOP_LISTS,
    assert_ties_alone_differ,
    available_screens,
    converted_screen,
    differences,
)
from vcpipe.config.gears import Conversion
from vcpipe.data.gears import convert

pytestmark = pytest.mark.upstream


@pytest.fixture(scope="module")
def both(run_gears, tmp_path_factory) -> dict[str, tuple[ad.AnnData, dict]]:
    """Of every screen that is here: what we wrote, and what GEARS makes of it."""
    folder = tmp_path_factory.mktemp("rankings")
    converted = {name: converted_screen(name, folder) for name in available_screens()}
    theirs = json.loads(run_gears("rank_gears.py", folder).stdout)
    return {name: (ad.read_h5ad(path), theirs[name]) for name, path in converted.items()}


@pytest.fixture(params=SCREENS)
def pair(request, both) -> tuple[ad.AnnData, dict]:
    if request.param not in both:
        pytest.skip("needs shared/data")
    return both[request.param]


def assert_same_columns_and_sets(ours: ad.AnnData, theirs: dict) -> None:
    assert {key: ours.obs[key].tolist() for key in theirs["obs"]} == theirs["obs"]
    for key in TOP_LISTS.values():
        found = {name: values.tolist() for name, values in ours.uns[key].items()}
        assert found == theirs["uns"][key]


def assert_same_rankings(ours: ad.AnnData, theirs: dict) -> None:
    assert_ties_alone_differ(ours, theirs["uns"]["rank_genes_groups_cov_all"], np.float32)


def assert_same_top_lists(ours: ad.AnnData, theirs: dict) -> None:
    # Their scores are too far apart to be exchanged: tests/data/test_rankings.py.
    for key in TOP_LISTS:
        assert differences(ours, key, theirs["uns"][key]).num_differing == 0


def test_gears_derives_our_columns_and_dropouts(pair):
    assert_same_columns_and_sets(*pair)


def test_the_top_genes_are_those_of_gears_one_by_one(pair):
    assert_same_top_lists(*pair)


def test_whole_rankings_are_those_of_gears_but_for_equal_scores(pair):
    assert_same_rankings(*pair)


def test_two_cell_types_and_a_combination_are_those_of_gears(two_cell_types, run_gears, tmp_path):
    raw, converted = tmp_path / "raw.h5ad", tmp_path / "tiny/perturb_processed.h5ad"
    two_cell_types.write_h5ad(raw)
    config = Conversion.model_validate({"dataset": {"cell_type_key": "kind"}})
    convert(raw, "tiny", config, converted)
    ours = ad.read_h5ad(converted)
    theirs = json.loads(run_gears("rank_gears.py", tmp_path).stdout)["tiny"]
    assert len(theirs["uns"]["rank_genes_groups_cov_all"]) == 12
    assert_same_columns_and_sets(ours, theirs)
    assert_same_top_lists(ours, theirs)
    assert_same_rankings(ours, theirs)
