"""Draw cell embeddings in two dimensions (UMAP or PCA), coloured by labels of the cells.

    python -m scripts.plot_embeddings --embeddings results/embed_cells/demo_masked/demo.h5ad \\
        --title "demo, demo_masked" --out results/plot_embeddings/demo_masked/demo \\
        'color_by=[cell_type, batch]'

Writes <label>.svg for every label into a folder, and umap.tsv (pca.tsv) with the places of the
cells.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.eval import EmbeddingPlot


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, EmbeddingPlot)
    made.add_argument("--embeddings", type=Path, required=True, help="h5ad of embed_cells")
    made.add_argument("--title", help="of the figures; default: the run")
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parse(made, argv)

    import pandas as pd

    from vcpipe.data.embeddings import read_embeddings
    from vcpipe.evaluation.projection import drawn_cells, places_of
    from vcpipe.files import writing
    from vcpipe.plots.embeddings import labels_to_show, write_embedding_figures

    config = args.config
    name, values, obs = read_embeddings(args.embeddings)
    labels = labels_to_show(obs, config.color_by)
    drawn = drawn_cells(len(obs), config.num_cells, config.seed)
    places = places_of(values[drawn], config)
    with writing(args.out) as folder:
        folder.mkdir()
        shown = obs.iloc[drawn], labels, args.title or name, config.method.upper()
        write_embedding_figures(folder, places, *shown)
        columns = [f"{config.method}{number}" for number in (1, 2)]
        table = pd.DataFrame(places, index=obs.index[drawn], columns=columns)
        table.to_csv(
            folder / f"{config.method}.tsv", sep="\t", index_label="cell", float_format="%.4f"
        )
    print(f"{len(drawn)} of {len(obs)} cells, by {', '.join(labels) or 'no label'}: {args.out}")


if __name__ == "__main__":
    run(main)
