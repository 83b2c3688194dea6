"""Download a screen and check that it is the expected file.

    python -m scripts.fetch_dataset --out results/fetch_dataset/vcc/dataset.h5ad \\
        url=https://example.org/adata_Training.h5ad sha256=a0997710...

An interrupted download keeps its bytes beside --out, and the same command goes on from there. --out
appears only when the file is whole and its SHA-256 is the expected one. Without sha256 nothing is
compared; the hash is printed, to be put into the configuration.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.datasets import Download


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Download)
    made.add_argument("--out", type=Path, required=True, help="file to write")
    args = parse(made, argv)

    from vcpipe.data.download import fetch

    found = fetch(args.config.url, args.out, args.config.sha256)
    print(f"{args.out.stat().st_size} bytes in {args.out}, SHA-256 {found}")


if __name__ == "__main__":
    run(main)
