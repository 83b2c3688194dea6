"""The manual, the schema and the code keep step with the models."""

import json

import jsonschema
import pytest
import yaml

from scripts.document_config import all_tables, documented
from vcpipe.config.documentation import rows, schema
from vcpipe.config.pipeline import Pipeline
from vcpipe.config.reading import PROJECT, read_pipeline, read_yaml


def test_the_schema_for_editors_is_current():
    assert json.loads((PROJECT / "config" / "schema.json").read_text()) == schema()


def test_the_key_tables_are_current():
    text = (PROJECT / "config" / "README.md").read_text()
    assert text == documented(text, all_tables())


@pytest.mark.parametrize("name", ["config.yaml", "demo.yaml", "my_screen.yaml"])
def test_the_schema_accepts_what_ships(name):
    jsonschema.validate(read_yaml(PROJECT / "config" / name), schema())


def test_what_every_screen_must_say_is_marked_and_the_guide_speaks_of_the_mark():
    lines = (PROJECT / "config" / "my_screen.yaml").read_text().splitlines()
    marked = {line.split(":")[0].strip() for line in lines if line.endswith("<- yours")}
    assert marked == {"path", "perturbation_key", "control_label", "batch_key", "effect"}
    guide = (PROJECT / "resources" / "README.md").read_text()
    assert "change the settings marked `<- yours`" in guide


def test_the_schema_refuses_an_unknown_key():
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"datasets": {"d": {"pathh": "x"}}}, schema())


def test_every_key_is_explained():
    assert all(row["meaning"] for row in rows(Pipeline))


def test_the_example_of_a_recipe_is_a_configuration():
    text = (PROJECT / "config/recipes/scmodelforge.md").read_text()
    example = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert read_pipeline(values=example)[0].pretrain["mine"].objective == "masked_genes"
