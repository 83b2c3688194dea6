"""Convert a configuration of EpiFoundation, scModelForge or scConcept to ours.

    python -m scripts.import_config theirs.yaml --kind scmodelforge --out config/mine.yaml

YAML in, YAML out. What reads differently here and what is dropped is printed, each with the reason;
a key that their system does not know, or a value that cannot be taken over, is refused.
Of scConcept the resolved configuration is expected, the config.yaml beside a checkpoint. Then:
snakemake --configfile config/mine.yaml results/pretrain/<run>/checkpoint
"""

import sys
from pathlib import Path

from vcpipe.config.arguments import parser, run


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("file", type=Path, help="YAML file")
    made.add_argument(
        "--kind", required=True, choices=["epifoundation", "scmodelforge", "scconcept"]
    )
    made.add_argument("--run", help="name of the run; default: the one in the file")
    made.add_argument("--out", type=Path, help="YAML to write; default: to the terminal")
    args = made.parse_args(argv)

    import yaml

    from vcpipe.config.importing.interpolation import interpolated
    from vcpipe.config.importing.keys import convert
    from vcpipe.config.importing.kinds import KINDS
    from vcpipe.config.reading import read_pipeline, read_yaml
    from vcpipe.errors import InputError
    from vcpipe.files import writing

    kind = KINDS[args.kind]
    found = convert(kind, interpolated(read_yaml(args.file)), args.run)
    nested = found.nested()
    text = yaml.safe_dump(nested, sort_keys=False, allow_unicode=True)
    # With --out the terminal is for what is said, else for the YAML.
    say = sys.stdout if args.out else sys.stderr
    for title, lines in (("reads differently", found.changed), ("dropped", found.dropped)):
        print(f"{title}: {len(lines)}", *(f"  {line}" for line in lines), sep="\n", file=say)
    try:
        read_pipeline(values=nested)
    except InputError as error:
        print(f"still to be corrected: {error}", file=say)
    if args.out is None:
        print(text, end="")
        return
    with writing(args.out) as partial:
        partial.write_text(f"# From {args.file.name} of {kind.title}.\n{text}")
    print(f"pretrain.{found.run}: {args.out}")


if __name__ == "__main__":
    run(main)
