"""Write an h5ad that LaminDB tracks, and which version of it this is.

    python -m scripts.fetch_artifact --out results/fetch_artifact/heart/cells.h5ad \\
        --artifact results/fetch_artifact/heart/artifact.json \\
        instance=laminlabs/cellxgene key=cell-census/2025-01-30/h5ads/heart.h5ad

Its Python is .venvs/lamindb/bin/python, which make env NAME=lamindb makes. An account is needed
where the instance is not public: .venvs/lamindb/bin/lamin login.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.atlases import Artifact


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Artifact)
    made.add_argument("--out", type=Path, required=True, help="h5ad to write")
    made.add_argument("--artifact", type=Path, required=True, help="JSON to write: what it is")
    args = parse(made, argv)

    from vcpipe.data.sources.artifacts import fetch
    from vcpipe.files import write_json

    about = fetch(args.config, args.out)
    write_json(args.artifact, about)
    print(f"{about['key']}, version {about['version']}, in {args.out}")


if __name__ == "__main__":
    run(main)
