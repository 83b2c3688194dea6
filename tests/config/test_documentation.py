"""The manual, the schema and the code keep step with the models."""

import ast
import json

import jsonschema
import pytest

from scripts.document_config import documented
from vcpipe.config.documentation import markdown_table, nested_section, rows, schema
from vcpipe.config.pipeline import Pipeline
from vcpipe.config.reading import PROJECT, read_yaml


def test_the_schema_for_editors_is_current():
    assert json.loads((PROJECT / "config" / "schema.json").read_text()) == schema()


def test_the_key_table_is_current():
    text = (PROJECT / "config" / "README.md").read_text()
    assert text == documented(text, markdown_table())


@pytest.mark.parametrize("name", ["config.yaml", "demo.yaml", "my_screen.yaml"])
def test_the_schema_accepts_what_ships(name):
    jsonschema.validate(read_yaml(PROJECT / "config" / name), schema())


def test_the_schema_refuses_an_unknown_key():
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"datasets": {"d": {"pathh": "x"}}}, schema())


def test_every_key_is_explained():
    assert all(row["meaning"] for row in rows(Pipeline))


def fields(section) -> set[str]:
    found = set()
    for name, field in section.model_fields.items():
        found.add(name)
        nested = nested_section(field.annotation)
        found |= fields(nested) if nested else set()
    return found


def attributes_read() -> set[str]:
    """Names of all attributes that the library (without its models), scripts and rules read."""
    read = {"schema_version"}  # its only value is checked by the model
    sources = [
        path
        for folder in ("workflow/vcpipe", "scripts")
        for path in (PROJECT / folder).rglob("*.py")
        if "vcpipe/config" not in str(path)
    ]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                read.add(node.attr)
    rules = " ".join(path.read_text() for path in (PROJECT / "workflow/rules").glob("*.smk"))
    return read | {name for name in fields(Pipeline) if f".{name}" in rules}


def test_no_key_exists_that_nothing_reads():
    by_name = {"no_change", "train_mean", "ridge_pca"}  # read as getattr(baselines, name)
    assert not fields(Pipeline) - attributes_read() - by_name
