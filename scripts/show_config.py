"""Print the resolved configuration: every key, its value, and where the value comes from.

python -m scripts.show_config                                  # config/config.yaml
python -m scripts.show_config config/demo.yaml                 # another file
python -m scripts.show_config config/demo.yaml eval.summary.seed=3
python -m scripts.show_config config/demo.yaml --only finetune # one section
"""

from pathlib import Path

from vcpipe.config.arguments import parser, run


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument(
        "files",
        nargs="*",
        metavar="FILE or dotted.name=value",
        help="files (later ones win) and settings that replace theirs",
    )
    made.add_argument("--only", default="", help="print keys that begin with this name")
    args = made.parse_intermixed_args(argv)

    from vcpipe.config.reading import origin_of, read_pipeline, values_of

    overrides = [text for text in args.files if "=" in text]
    files = [Path(text) for text in args.files if "=" not in text] or [Path("config/config.yaml")]
    pipeline, origins = read_pipeline(files, overrides=overrides)
    rows = [
        (dotted, str(value), origin_of(dotted, origins))
        for dotted, value in values_of(pipeline).items()
        if f"{dotted}.".startswith(f"{args.only}." if args.only else "")
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for dotted, value, origin in rows:
        print(f"{dotted:<{widths[0]}}  {value:<{min(widths[1], 40)}}  # {origin}")


if __name__ == "__main__":
    run(main)
