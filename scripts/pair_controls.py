"""Keep half of a screen's control cells for scoring, and draw a control for each perturbed cell.

Both are drawn once a dataset, with a seed, and stored: GEARS's cell graphs and finetuning read the
same pairs, every model and score the same halves. Halves are drawn within batches; partners come
from the models' half, of the cell's own cell type, of its batch too, or any (as in GEARS). Writes

  --controls  cell, use (model or scoring)
  --pairs     control_row, int32, one entry a cell of the screen: for a perturbed cell the row of
              its control, for a control of the models' half its own row, for one kept for scoring
              -1; about, JSON text: data_digest of the screen, settings. No pickle.

  python -m scripts.pair_controls \\
      --cells results/convert_to_gears/demo/perturb_processed.h5ad \\
      --controls results/pair_controls/demo/controls.tsv \\
      --pairs results/pair_controls/demo/pairs.npz seed=0 within=batch
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.gears import Pairing


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Pairing)
    made.add_argument("--cells", type=Path, required=True, help="perturb_processed.h5ad")
    made.add_argument("--controls", type=Path, required=True, help="TSV to write, see above")
    made.add_argument("--pairs", type=Path, required=True, help="npz to write, see above")
    args = parse(made, argv)

    from vcpipe.data.order import generator_of
    from vcpipe.data.pairing import pair_controls, write_pairs
    from vcpipe.data.screen import open_screen
    from vcpipe.data.splits import draw_controls, write_controls

    screen = open_screen(args.cells)
    controls = draw_controls(screen, args.config.seed)
    # Halves and partners each have numbers of their own from one seed.
    generator = generator_of(args.config.seed, 1)
    control_row = pair_controls(screen, controls, args.config.within, generator)

    about = {
        "data_digest": screen.data_digest,
        "settings": args.config.model_dump(mode="json"),
    }
    write_controls(args.controls, controls)
    write_pairs(args.pairs, control_row, about)
    num_model = sum(use == "model" for use in controls.values())
    print(
        f"{len(screen.cells) - len(controls)} perturbed cells beside {num_model} control cells, "
        f"{len(controls) - num_model} kept for scoring -> {args.pairs}"
    )


if __name__ == "__main__":
    run(main)
