"""Write config/schema.json and the key table of config/README.md from the models.

    python -m scripts.document_config

Editors read the schema: the first line of a configuration may say
# yaml-language-server: $schema=schema.json
"""

from pathlib import Path

from vcpipe.config.arguments import parser, run

PROJECT = Path(__file__).parents[1]
START, END = "<!-- keys: written by scripts.document_config -->", "<!-- end of keys -->"


def documented(text: str, table: str) -> str:
    """The README with the table between its two marks."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{table}\n\n{END}{after}"


def main(argv: list[str] | None = None) -> None:
    parser(__doc__).parse_args(argv)

    from vcpipe.config.documentation import markdown_table, schema
    from vcpipe.files import write_json, writing

    write_json(PROJECT / "config" / "schema.json", schema())
    readme = PROJECT / "config" / "README.md"
    text = documented(readme.read_text(), markdown_table())
    with writing(readme) as partial:
        partial.write_text(text)


if __name__ == "__main__":
    run(main)
