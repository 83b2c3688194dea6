"""Write the cells of one query of the CELLxGENE Census as an h5ad with raw counts.

    python -m scripts.fetch_census --out results/fetch_census/brain/cells.h5ad \\
        --query results/fetch_census/brain/query.json census_version=2025-01-30 \\
        "filters={tissue: [brain, heart], is_primary_data: true}" "obs_columns=[donor_id]"

Its Python is .venvs/census/bin/python, which make env NAME=census makes. A cell is in the census
once for each data set that holds it; is_primary_data: true takes it once.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.atlases import Census


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Census)
    made.add_argument("--out", type=Path, required=True, help="h5ad to write")
    made.add_argument("--query", type=Path, required=True, help="JSON to write: what it holds")
    args = parse(made, argv)

    from vcpipe.data.sources.census import fetch
    from vcpipe.files import write_json

    about = fetch(args.config, args.out)
    write_json(args.query, about)
    print(
        f"{about['num_cells']} cells, {about['num_genes']} genes, {about['num_entries']} entries "
        f"in {args.out}"
    )


if __name__ == "__main__":
    run(main)
