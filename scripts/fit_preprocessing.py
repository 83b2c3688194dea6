"""Learn from training cells what preprocessing applies to all: one record, fitted once.

    python -m scripts.fit_preprocessing \\
        --screens results/convert_to_gears/demo/perturb_processed.h5ad \\
        --split results/split_perturbations/demo/simulation_1_0.75.tsv \\
        --controls results/pair_controls/demo/controls.tsv \\
        --atlases atlases.yaml --vocabulary results/build_vocabulary/demo \\
        --out results/fit_preprocessing/demo fit.hvg_selection=2000 cell_split.val=0.05

Cells of atlases are drawn into train, val and test (cell_split); of screens the split of
perturbations decides, and without one all cells are in train. The folder gets record.json (genes
and peaks that stay, medians, edges of bins, highly variable genes), tables of statistics (genes.tsv
and peaks.tsv) and hvg.csv.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.atlases import Atlas
from vcpipe.config.fitting import Fitting
from vcpipe.config.reading import read_sections


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Fitting)
    made.add_argument("--screens", type=Path, nargs="*", default=[], help="converted screens")
    made.add_argument("--split", type=Path, nargs="*", default=[], help="one per screen, or none")
    made.add_argument(
        "--controls", type=Path, nargs="*", default=[], help="one per screen, or none"
    )
    made.add_argument("--atlases", default="{}", help="YAML (or a file): {name: atlas}")
    made.add_argument("--vocabulary", type=Path, required=True, help="folder of build_vocabulary")
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parse(made, argv)

    from vcpipe.data.feature_ids import feature_ids
    from vcpipe.data.sources.atlas import open_atlas
    from vcpipe.data.sources.screens import ScreenCells
    from vcpipe.data.vocabulary_files import read_vocabularies

    from vcpipe.data.cell_sets import draw_cell_sets, read_screen_sets
    from vcpipe.data.fitting import fit
    from vcpipe.data.fitting_files import write_fitted
    from vcpipe.data.screen import open_screen
    from vcpipe.data.training_cells import CellsToFit
    from vcpipe.files import writing

    config, vocabularies = args.config, read_vocabularies(args.vocabulary)
    screens = [open_screen(path) for path in args.screens]
    given, split_digests = read_screen_sets(screens, args.split, args.controls)
    sources = [ScreenCells(screen) for screen in screens]
    for name, atlas in read_sections(Atlas, args.atlases).items():
        sources += open_atlas(name, atlas)
    given += [None] * (len(sources) - len(given))
    cells = []
    for source, sets in zip(
        sources, draw_cell_sets(sources, config.cell_split, given), strict=True
    ):
        found = feature_ids(source, vocabularies, config.vocabulary)
        cells.append(CellsToFit(source, {of: ids for of, (ids, _) in found.items()}, sets))
    names = {
        one.axis(of): vocabularies.of(of, one.source.species).names()
        for one in cells
        for of in one.feature_ids
    }
    about = {"cell_split": config.cell_split.model_dump(mode="json"), "splits": split_digests}
    special = vocabularies.special_tokens.names()
    fitted = fit(cells, names, special, vocabularies.digest, config.fit, config.filters, about)
    with writing(args.out) as folder:
        folder.mkdir()
        write_fitted(folder, fitted, special)
    print(f"fitted on {fitted.record.num_cells} training cells -> {args.out}")
    for what, reasons in fitted.record.dropped.items():
        left_out = ", ".join(f"{number} by {reason}" for reason, number in reasons.items())
        print(f"{what} left out: {left_out}")


if __name__ == "__main__":
    run(main)
