"""The splits that cell-gears 0.1.2 draws, as JSON: run by its own Python, never by ours.

python tests/upstream/split_gears.py CASES: a JSON list of {"conditions": [one a cell],
"split": ..., "seed": ...} and what else GEARS's prepare_split is to be told.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from anndata import AnnData
from gears import PertData
from gears.data_utils import DataSplitter
from offline import answer


def main(cases: Path) -> list[dict]:
    return [drawn(**case) for case in json.loads(cases.read_text())]


def drawn(conditions: list[str], split: str, seed: int, **settings) -> dict:
    """The conditions of each set in the order of GEARS, and its subgroups."""
    names = [f"cell{number}" for number in range(len(conditions))]
    obs = pd.DataFrame({"condition": pd.Categorical(conditions)}, index=names)
    cells = AnnData(obs=obs)
    if split == "simulation_single":
        # prepare_split unpacks two values where this gives one.
        cells = DataSplitter(cells, split).split_data(seed=seed, **settings)
        lists = cells.obs.groupby("split")["condition"].agg(lambda column: [*column.unique()])
        return {"lists": lists.to_dict(), "subgroups": None}
    # Without __init__, which downloads the GO terms.
    data = PertData.__new__(PertData)
    data.adata, data.dataset_name = cells, "drawn"
    with TemporaryDirectory() as data.dataset_path:
        data.prepare_split(split=split, seed=seed, **settings)
    return {"lists": data.set2conditions, "subgroups": data.subgroup}


if __name__ == "__main__":
    answer(main)
