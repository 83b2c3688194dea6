"""The schema for editors and the key table for people, both made from the models."""

import types
import typing

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from vcpipe.config.pipeline import Pipeline
from vcpipe.config.section import Section


def rows(section: type[Section], prefix: str = "") -> list[dict]:
    """One row for each key: its dotted name, type, default, bounds and meaning."""
    found = []
    for name, field in section.model_fields.items():
        dotted = f"{prefix}{name}"
        nested = nested_section(field.annotation)
        if nested is not None:
            named = typing.get_origin(field.annotation) is dict
            found += rows(nested, f"{dotted}.<name>." if named else f"{dotted}.")
        else:
            found.append(
                {
                    "key": dotted,
                    "type": _type_text(field.annotation),
                    "default": _default_text(field),
                    "allowed": _allowed_text(field),
                    "meaning": field.description,
                }
            )
    return found


def nested_section(annotation) -> type[Section] | None:
    """The section inside `Section`, `Section | None` or `dict[Name, Section]`."""
    options = [annotation, *typing.get_args(annotation)]
    if typing.get_origin(annotation) is list:
        return None
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _type_text(annotation) -> str:
    origin, options = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(str(option) for option in options)
    if origin is typing.Annotated:
        return _type_text(options[0])
    if origin is list:
        return f"list of {_type_text(options[0])}"
    if origin in (types.UnionType, typing.Union):
        return " | ".join("null" if o is type(None) else _type_text(o) for o in options)
    return annotation.__name__


def _default_text(field) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return "null"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    if isinstance(field.default, list):
        return "[" + ", ".join(str(item) for item in field.default) + "]"
    return str(field.default)


def _allowed_text(field) -> str:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "min_length": "at least"}
    bounds = []
    for constraint in field.metadata:
        for name, sign in signs.items():
            if getattr(constraint, name, None) is not None:
                bounds.append(f"{sign} {getattr(constraint, name)}")
    return ", ".join(bounds)


def table_of(section: type[Section]) -> str:
    """The keys as plain lines, for --help."""
    return "\n".join(
        f"  {row['key']:<34} {row['meaning']} [{row['default']}{_choices(row)}]"
        for row in rows(section)
    )


def _choices(row: dict) -> str:
    return f"; {row['type']}" if " | " in row["type"].replace(" | null", "") else ""


def markdown_table() -> str:
    """The keys of the whole configuration, for config/README.md."""
    lines = ["| key | type | default | allowed | meaning |", "| --- | --- | --- | --- | --- |"]
    for row in rows(Pipeline):
        cells = [
            f"`{row['key']}`",
            row["type"],
            f"`{row['default']}`",
            row["allowed"],
            row["meaning"],
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def schema() -> dict:
    """JSON schema of the configuration; an entry may also be `from: file` with changes."""
    made = Pipeline.model_json_schema()
    made["title"] = "vcpipe configuration"
    for name in _entries(made):
        definition = made["$defs"][name]
        definition["properties"]["from"] = {
            "type": "string",
            "description": "YAML file whose settings the other keys are laid over",
        }
        definition.pop("required", None)
    return made


def _entries(made: dict) -> list[str]:
    """Names of the definitions that stand directly under a section of the top level."""
    references = []
    for content in made["properties"].values():
        optional, named = content.get("anyOf", []), content.get("patternProperties", {})
        for place in (content, *optional, *named.values()):
            if "$ref" in place:
                references.append(place["$ref"].removeprefix("#/$defs/"))
    return references
