"""Our splits of random conditions against those that cell-gears 0.1.2 draws itself."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vcpipe.config.splits import Split
from vcpipe.data.screen import Screen
from vcpipe.data.splits import draw_split, gears_lists
from vcpipe.errors import InputError

pytestmark = pytest.mark.upstream

SHARE = "combo_single_split_test_set_fraction"
# No settings: our defaults against GEARS's own.
SETTINGS = [
    ("simulation", {}),
    ("simulation", {"train_gene_set_size": 0.5, "combo_seen2_train_fraction": 0.9}),
    ("simulation_single", {}),
    ("simulation_single", {"train_gene_set_size": 0.5}),
    ("no_test", {}),
    *((method, {}) for method in ("single", "combo_seen0", "combo_seen1", "combo_seen2")),
    *((method, {SHARE: 0.2}) for method in ("single", "combo_seen0", "combo_seen1", "combo_seen2")),
]
# Where GEARS's word for a setting is not ours.
GEARS_WORD = {"combo_seen2_train_fraction": "combo_seen2_train_frac"}
NUM_SEEDS = 10


@dataclass(frozen=True)
class Case:
    """A split, and the condition of every cell."""

    split: Split
    conditions: list[str]

    def for_gears(self, settings: dict) -> dict:
        named = {GEARS_WORD.get(name, name): value for name, value in settings.items()}
        split = {"split": self.split.method, "seed": self.split.seed}
        return {"conditions": self.conditions} | split | named


def random_case(method: str, settings: dict, seed: int) -> Case:
    """25 to 60 single perturbations, 80 pairs and the control, of 2 to 4 cells in drawn order."""
    generator = np.random.default_rng(seed)
    genes = [f"G{number}" for number in range(generator.integers(30, 60))]
    conditions = [f"{gene}+ctrl" for gene in genes[: generator.integers(25, len(genes))]]
    if method != "simulation_single":
        drawn = (generator.choice(genes, 2, replace=False) for _ in range(80))
        conditions += sorted({"+".join(sorted(pair)) for pair in drawn})
    cells = np.repeat([*conditions, "ctrl"], generator.integers(2, 5, len(conditions) + 1))
    return Case(Split(method=method, seed=seed, **settings), generator.permutation(cells).tolist())


def screen_of(conditions: list[str]) -> Screen:
    return Screen(
        path=Path("screen.h5ad"),
        genes=np.array(["G0"]),
        cells=np.array([f"cell{number}" for number in range(len(conditions))]),
        condition=np.array(conditions),
        batch=np.full(len(conditions), "b0"),
        cell_type=np.full(len(conditions), "K562"),
        about={},
    )


@pytest.fixture(scope="module")
def drawn(run_gears, tmp_path_factory) -> dict[int, list[tuple[Case, dict]]]:
    """Every case, by its place in SETTINGS, and what tests/upstream/split_gears.py says of it."""
    cases = {
        place: [random_case(method, settings, seed) for seed in range(NUM_SEEDS)]
        for place, (method, settings) in enumerate(SETTINGS)
    }
    asked = [case.for_gears(SETTINGS[place][1]) for place in cases for case in cases[place]]
    path = tmp_path_factory.mktemp("splits") / "cases.json"
    path.write_text(json.dumps(asked))
    theirs = iter(json.loads(run_gears("split_gears.py", path).stdout))
    return {place: [(case, next(theirs)) for case in cases[place]] for place in cases}


@pytest.mark.parametrize("place", range(len(SETTINGS)), ids=map(str, SETTINGS))
def test_gears_draws_our_lists(drawn, place):
    num_compared = 0
    for case, theirs in drawn[place]:
        screen, lists = screen_of(case.conditions), theirs["lists"]
        expected = {"train", "val"} if case.split.method == "no_test" else {"train", "val", "test"}
        if set(lists) == expected:
            split, subgroups = draw_split(screen, case.split)
            assert gears_lists(split) == {"test": []} | lists
            if theirs["subgroups"] is not None:
                assert subgroups == theirs["subgroups"]
            num_compared += 1
        else:
            # The drawn genes are perturbed only in combinations; GEARS fails later.
            with pytest.raises(InputError, match=r"leaves .* empty.*try another seed"):
                draw_split(screen, case.split)
    print(f"{num_compared} of {NUM_SEEDS} splits compared")
    assert num_compared >= 0.7 * NUM_SEEDS
