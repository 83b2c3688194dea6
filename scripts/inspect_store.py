"""Show what is in a cell store, verify its checksums, and write it out for other programs.

python -m scripts.inspect_store results/prepare_cells/demo
python -m scripts.inspect_store results/prepare_cells/demo --verify
python -m scripts.inspect_store results/prepare_cells/demo --export-h5ad demo.h5ad --modality rna
"""

from pathlib import Path

from vcpipe.config.arguments import parser, run


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("store", type=Path, help="folder that prepare_cells has written")
    made.add_argument("--verify", action="store_true", help="read all and compare sha256")
    made.add_argument("--export-h5ad", type=Path, metavar="FILE", help="raw counts as an h5ad")
    made.add_argument("--export-zarr", type=Path, metavar="FOLDER", help="the same as zarr v3")
    made.add_argument(
        "--modality", default=None, help="to export (default: rna, where there are genes)"
    )
    made.add_argument("--species", default=None, help="to export, where there are several")
    made.add_argument(
        "--unpack", type=Path, metavar="FOLDER", help="copy without compression, for a local disk"
    )
    made.add_argument(
        "--vocabulary-folder",
        type=Path,
        help="of build_vocabulary: is the store made of this vocabulary?",
    )
    args = made.parse_args(argv)

    from vcpipe.data.cell_store.exports import export_h5ad, export_zarr
    from vcpipe.data.cell_store.reading import open_store
    from vcpipe.data.cell_store.summary import check_names, summary
    from vcpipe.data.cell_store.unpacked import unpack

    store = open_store(args.store)
    print(summary(store))
    if args.vocabulary_folder:
        checked = check_names(store, args.vocabulary_folder)
        print(f"vocabulary: {', '.join(checked)} as in {args.vocabulary_folder}")
    if args.verify:
        print(f"verified: {store.verify():,} bytes are as they were written")
    modality = args.modality or store.modalities[0]
    if args.export_h5ad:
        export_h5ad(store, args.export_h5ad, modality, args.species)
        print(f"wrote {args.export_h5ad}: {len(store):,} cells of all sets (obs: set), {modality}")
    if args.export_zarr:
        export_zarr(store, args.export_zarr, modality, args.species)
        print(f"wrote {args.export_zarr}: {len(store):,} cells of all sets (obs: set), {modality}")
    if args.unpack:
        unpack(store, args.unpack)


if __name__ == "__main__":
    run(main)
