"""Fit one simple predictor on the training perturbations of a split.

Baselines: no_change (a perturbed cell is a control cell), train_mean (the mean training profile),
ridge_pca (ridge regression on principal components of genes). They see the train set and the
model's half of the controls, nothing else. Where contexts are held out, effects are measured in the
train contexts, against the controls of the cell's own cell type there, and added to the models'
controls of the test contexts. The result is a .npz of arrays, without pickle.

Example:
  python -m scripts.fit_baseline --cells results/convert_to_gears/vcc/perturb_processed.h5ad \\
    --split results/split_perturbations/vcc/unseen.tsv \\
    --controls results/pair_controls/vcc/controls.tsv \\
    --baseline ridge_pca --out results/fit_baseline/vcc/unseen/ridge_pca.npz ridge_pca.penalty=0.1
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.eval import Baselines


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Baselines)
    made.add_argument("--cells", type=Path, required=True, help="perturb_processed.h5ad")
    made.add_argument("--split", type=Path, required=True, help="TSV of split_perturbations")
    made.add_argument("--controls", type=Path, required=True, help="controls.tsv of pair_controls")
    made.add_argument("--baseline", choices=list(Baselines.model_fields), required=True)
    made.add_argument("--out", type=Path, required=True, help=".npz to write")
    args = parse(made, argv)

    from vcpipe.data.screen import open_screen
    from vcpipe.data.splits import read_controls, read_split, split_digest
    from vcpipe.evaluation.baselines import BASELINES, write_baseline
    from vcpipe.evaluation.profiles import training_profiles
    from vcpipe.files import digest

    screen = open_screen(args.cells)
    split, controls = read_split(args.split), read_controls(args.controls)
    training = training_profiles(screen, split, controls)
    config = getattr(args.config, args.baseline)
    parameters = BASELINES[args.baseline].fit(training, config)
    settings = {"baseline": args.baseline, "config": config.model_dump(mode="json")}
    about = {
        "kind": "baseline",
        **settings,
        "config_digest": digest(settings),
        "data_digest": screen.data_digest,
        "target_sum": screen.target_sum,
        "split_digest": split_digest(split, controls),
    }
    write_baseline(args.out, parameters, about)
    print(f"{args.baseline}: fitted on {len(training.conditions)} perturbations -> {args.out}")


if __name__ == "__main__":
    run(main)
