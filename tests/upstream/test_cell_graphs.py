"""Our cell_graphs.pkl against the one that cell-gears 0.1.2 makes of the same screen."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest

from vcpipe.config.gears import CellGraphs, Conversion
from vcpipe.data.gears import convert
from vcpipe.data.pairing import NOBODY, pair_controls
from vcpipe.data.screen import open_screen
from vcpipe.data.splits import draw_controls
from vcpipe.training.cell_graphs import write_cell_graphs

pytestmark = pytest.mark.upstream


@pytest.fixture
def ours(counts, generator, tmp_path) -> dict:
    """Of a screen with a combination; GEARS finds the screen, not our graphs."""
    labels = counts.obs["target_gene"].astype(str).to_numpy(copy=True)
    labels[-5:] = "GENE11+GENE03"
    counts.obs["target_gene"] = pd.Categorical(labels)
    counts.write_h5ad(tmp_path / "raw.h5ad")
    convert(tmp_path / "raw.h5ad", "tiny", Conversion(), tmp_path / "tiny/perturb_processed.h5ad")
    screen = open_screen(tmp_path / "tiny/perturb_processed.h5ad")
    paired = pair_controls(screen, draw_controls(screen, 0), "screen", generator)
    # GENE01 and GENE22 have no term.
    terms = {gene: {"GO:1"} for gene in [*screen.genes, "AAA"] if gene not in ("GENE01", "GENE22")}
    (tmp_path / "gene2go_all.pkl").write_bytes(pickle.dumps(terms))
    # GEARS keeps no control cells for scoring.
    config = CellGraphs(include_scoring_controls=True)
    write_cell_graphs(tmp_path / "ours.pkl", screen, paired, config, set(terms))
    assert (paired == NOBODY).any()
    return pickle.loads((tmp_path / "ours.pkl").read_bytes())


def test_gears_makes_our_graphs_itself_but_for_the_controls_it_draws(ours, run_gears, tmp_path):
    theirs = json.loads(run_gears("graph_gears.py", tmp_path).stdout)
    assert list(theirs) == list(ours)
    assert len(theirs["GENE03+GENE11"][0]["pert_idx"]) == 2
    controls = [graph["control"] for graph in theirs["ctrl"]]
    for condition, graphs in theirs.items():
        for mine, their in zip(ours[condition], graphs, strict=True):
            assert sorted(mine.keys()) == their["fields"]
            types = {name: [str(mine[name].dtype), list(mine[name].shape)] for name in "xy"}
            assert types == their["types"]
            assert mine.y[0].tolist() == their["cell"]
            assert mine.pert == their["pert"]
            assert mine.pert_idx == their["pert_idx"]
            assert np.asarray(mine.de_idx).tolist() == their["de_idx"]
            assert mine.x[:, 0].tolist() in controls
            assert their["control"] in controls
    for mine, their in zip(ours["ctrl"], theirs["ctrl"], strict=True):
        assert mine.x[:, 0].tolist() == their["control"] == their["cell"]
