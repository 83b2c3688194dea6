"""Split the perturbations of a converted screen into train, val and test.

Whole perturbations go to one set. Methods: simulation (GEARS's split by target gene),
simulation_single, single, no_test, combo_seen0, combo_seen1, combo_seen2 (GEARS's too: the same
lists for the same seed), no_split (all in train), k_fold (over target genes), published (lists of
target genes), custom (a TSV with columns condition and set). GEARS leaves combinations of genes of
two sets out of all sets in single and combo_seen0: their set is unused. Control cells are halved by
pair_controls.

held_out_context splits by cell type or batch instead: perturbed cells of test_contexts are test, so
a perturbation may be in train, elsewhere, and in test. Training sees no cell of a held-out context,
not even its controls; prediction starts from the models' half of these, and scores compare with the
other half. Writes

  --table     condition, set, subgroup (unseen_single, combo_seen0, unseen_context, ..., train,
              control, unused), num_cells; of held_out_context a row for each condition in each
              context, which stands in a column cell_type or batch
  --pickle    the dictionary that GEARS reads: train, val, test -> conditions, ctrl in train;
              conditions with cells in two sets, which it cannot express, are in none
  --subgroup  test_subgroup and val_subgroup as GEARS pickles them; empty for other methods

  python -m scripts.split_perturbations \\
      --cells results/convert_to_gears/demo/perturb_processed.h5ad \\
      --table results/split_perturbations/demo/simulation.tsv \\
      --pickle results/convert_to_gears/demo/splits/demo_simulation.pkl \\
      --subgroup results/convert_to_gears/demo/splits/demo_simulation_subgroup.pkl seed=1
"""

import pickle
from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.splits import Split
from vcpipe.files import writing


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Split)
    made.add_argument("--cells", type=Path, required=True, help="perturb_processed.h5ad")
    for name in ("table", "pickle", "subgroup"):
        made.add_argument(f"--{name}", type=Path, required=True, help="to write, see above")
    args = parse(made, argv)

    from vcpipe.data import splits
    from vcpipe.data.screen import open_screen

    screen = open_screen(args.cells)
    split, subgroups = splits.draw_split(screen, args.config)

    splits.write_split(args.table, split)
    lists = splits.gears_lists(split)
    # GEARS reads pickles; nothing of ours does.
    for path, content in (
        (args.pickle, lists),
        (args.subgroup, subgroups or {"test_subgroup": {}, "val_subgroup": {}}),
    ):
        with writing(path) as partial:
            partial.write_bytes(pickle.dumps(content))
    sizes = ", ".join(
        f"{len(split.conditions(name))} {name}" for name in (*splits.SETS, splits.UNUSED)
    )
    print(f"{args.config.method}: {sizes} -> {args.table}")
    for remark in splits.remarks(args.config, split):
        print(remark)


if __name__ == "__main__":
    run(main)
