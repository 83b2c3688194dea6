"""Write config/schema.json and the key tables of config/README.md from the models.

    python -m scripts.document_config

Editors read the schema: the first line of a configuration may say
# yaml-language-server: $schema=schema.json
"""

from pathlib import Path

from vcpipe.config.arguments import parser, run

PROJECT = Path(__file__).parents[1]


def documented(text: str, tables: dict[str, str]) -> str:
    """The README with each table between its two marks."""
    for name, table in tables.items():
        start, end = (
            f"<!-- {name}: written by scripts.document_config -->",
            f"<!-- end of {name} -->",
        )
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n\n{table}\n\n{end}{after}"
    return text


def all_tables() -> dict[str, str]:
    from vcpipe.config.documentation import markdown_table
    from vcpipe.config.importing.kinds import import_tables

    return {"keys": markdown_table(), "imported keys": import_tables()}


def main(argv: list[str] | None = None) -> None:
    parser(__doc__).parse_args(argv)

    from vcpipe.config.documentation import schema
    from vcpipe.files import write_json, writing

    write_json(PROJECT / "config" / "schema.json", schema())
    readme = PROJECT / "config" / "README.md"
    text = documented(readme.read_text(), all_tables())
    with writing(readme) as partial:
        partial.write_text(text)


if __name__ == "__main__":
    run(main)
