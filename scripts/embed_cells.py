"""Give every cell of a file the vector that a pretrained model has for it.

    python -m scripts.embed_cells --model results/pretrain/demo_masked/checkpoint \\
        --cells some.h5ad --out results/embed_cells/demo_masked/some.h5ad batch_size=128

--model is a folder of pretrain, wherever it was moved: cells are prepared as its own were, by the
names and the record that it holds. Genes are found by name, in any order; what is covered is
printed, and too little is an error. --atlas, instead of --cells, is YAML with the settings of
atlases.<name>: several files, a layer, other names, another species.

The h5ad has the cells in the order of the file, with their obs, and obsm["X_<run>"]:
scanpy.pp.neighbors(cells, use_rep="X_demo_masked"). All cells are there, also those that training
would leave out as too small. A vector depends on the cell alone, not on those beside it.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.eval import Embedding


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Embedding)
    made.add_argument("--model", type=Path, required=True, help="folder of pretrain")
    cells = made.add_mutually_exclusive_group(required=True)
    cells.add_argument("--cells", type=Path, help="h5ad, h5mu, 10x .h5 or folder, raw counts in X")
    cells.add_argument("--atlas", help="YAML, or a file: settings of atlases.<name>")
    made.add_argument("--species", help="of --cells, where the model knows several")
    made.add_argument("--run", help="X_<run>; default: as the model's folder is called")
    made.add_argument("--out", type=Path, required=True, help="h5ad to write")
    made.add_argument(
        "--devices", type=int, choices=[0, 1], default=0, help="1 for a GPU (default: 0, the CPU)"
    )
    args = parse(made, argv)

    from vcpipe.config.atlases import Atlas
    from vcpipe.config.reading import read_section
    from vcpipe.data.embeddings import counts_to_copy, obs_of, write_embeddings
    from vcpipe.data.sources.atlas import open_atlas
    from vcpipe.training.distributed import joined
    from vcpipe.training.embedders.embedder import read_pretrained
    from vcpipe.training.embedding import embed, embedder_of

    pretrained = read_pretrained(args.model)
    embedder = embedder_of(pretrained, args.config)
    if args.cells:
        atlas = pretrained.atlas_of(args.cells, embedder.modality, args.species)
    else:
        atlas = read_section(Atlas, args.atlas)
    name = args.run or pretrained.name
    sources = open_atlas("cells", atlas.only(embedder.modality))
    obs = obs_of(sources, atlas)
    counts = counts_to_copy(sources) if args.config.keep_counts else None
    with joined(args.devices) as process:
        embedded = embed(pretrained, embedder, sources, args.config, process)
    about = {"run": name, **pretrained.about, "notes": embedded.notes}
    write_embeddings(args.out, embedded.values_CD, obs, name, about, counts)
    print(*embedded.notes, sep="\n")
    print(f"{len(obs)} cells, obsm['X_{name}'] of width {embedded.values_CD.shape[1]}: {args.out}")


if __name__ == "__main__":
    run(main)
