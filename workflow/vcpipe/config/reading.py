"""From YAML and overrides to a checked configuration, with the origin of every value."""

import difflib
import json
import typing
from os.path import normpath
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from vcpipe.config.pipeline import Pipeline, contradictions
from vcpipe.config.section import Section
from vcpipe.errors import InputError, listed
from vcpipe.files import matching

PROJECT = Path(__file__).parents[3]

Origins = dict[str, str]


def read_yaml(path: Path, origins: Origins | None = None, prefix: str = "") -> dict:
    """Read one mapping; a key that stands twice is an error; note each value's file and line."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a YAML file with settings.")
    try:
        node = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{path} holds no mapping; expected 'key: value' lines.")
    return _construct(node, prefix, path, {} if origins is None else origins)


def _construct(node: yaml.Node, dotted: str, path: Path, origins: Origins):
    if not isinstance(node, yaml.MappingNode):
        origins[dotted] = f"{path}:{node.start_mark.line + 1}"
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(node, deep=True)
        finally:
            loader.dispose()
    values = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        if key in values:
            line = key_node.start_mark.line + 1
            raise InputError(f"{path}:{line}: {key!r} stands twice; keep one of them.")
        values[key] = _construct(value_node, _join(dotted, key), path, origins)
    if not values:
        origins[dotted] = f"{path}:{node.start_mark.line + 1}"
    return values


def _join(dotted: str, key: str) -> str:
    return f"{dotted}.{key}" if dotted else key


def find_file(path: str) -> Path:
    """A path in the configuration is relative to the working directory, else to the project."""
    return Path(path) if Path(path).exists() else PROJECT / path


def expand(values: dict, origins: Origins) -> dict:
    """Replace `{from: file, key: value}` by the file's settings with the keys laid over them."""
    expanded = {}
    for section, content in values.items():
        if section in _named_sections() and isinstance(content, dict):
            content = {
                name: _expand_entry(entry, f"{section}.{name}", origins)
                for name, entry in content.items()
            }
        elif section in Pipeline.model_fields:
            content = _expand_entry(content, section, origins)
        expanded[section] = content
    return expanded


def _expand_entry(entry, dotted: str, origins: Origins):
    if not isinstance(entry, dict) or "from" not in entry:
        return entry
    origins.pop(f"{dotted}.from", None)
    found: Origins = {}
    base = read_yaml(find_file(str(entry["from"])), found, dotted)
    for key, origin in found.items():
        origins.setdefault(key, origin)
    return merge(base, {key: value for key, value in entry.items() if key != "from"})


def merge(base: dict, changes: dict) -> dict:
    """Lay nested changes over nested settings; neither argument is altered."""
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def override(values: dict, assignment: str, origins: Origins | None = None) -> dict:
    """Apply one `dotted.name=value`: override(settings, "optimizer.lr=5e-5")."""
    dotted, equals, text = assignment.partition("=")
    if not equals or not dotted:
        raise InputError(f"{assignment!r} is no override; expected dotted.name=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{assignment!r}: {text!r} is not YAML: {error}") from error
    keys = _keys(values, dotted.strip())
    if len(keys) > 1 and keys[0] in _named_sections() and keys[1] not in values.get(keys[0], {}):
        names = listed(values.get(keys[0], {})) or "none yet"
        raise InputError(f"{keys[0]}.{keys[1]} is not defined; the names there are {names}.")
    changes = value
    for key in reversed(keys):
        changes = {key: changes}
    if origins is not None:
        for known in [name for name in origins if f"{name}.".startswith(f"{dotted}.")]:
            del origins[known]
        origins[dotted] = "command line"
    return merge(values, changes)


def _keys(values, dotted: str) -> list[str]:
    """Split at dots, but keep a name that holds dots: splits.simulation_1_0.75.seed."""
    keys = []
    rest = dotted.split(".")
    while rest:
        known = values if isinstance(values, dict) else {}
        size = next((n for n in range(len(rest), 1, -1) if ".".join(rest[:n]) in known), 1)
        keys.append(".".join(rest[:size]))
        values = known.get(keys[-1])
        rest = rest[size:]
    return keys


def _named_sections() -> set[str]:
    return {
        name
        for name, field in Pipeline.model_fields.items()
        if typing.get_origin(field.annotation) is dict
    }


def read_pipeline(
    files: list[Path] | None = None,
    values: dict | None = None,
    overrides: list[str] = (),
    source: str = "the configuration",
) -> tuple[Pipeline, Origins]:
    """Read files (later ones win) or take values as read, apply overrides, check everything."""
    origins: Origins = {}
    merged = dict(values or {})
    for path in files or []:
        merged = merge(merged, read_yaml(path, origins))
    # Which file a section is read from comes first, changes of what it says come after it.
    sources = [each for each in overrides if each.partition("=")[0].strip().endswith(".from")]
    for assignment in sources:
        merged = override(merged, assignment)
    merged = expand(merged, origins)
    for assignment in overrides:
        if assignment not in sources:
            merged = override(merged, assignment, origins)
    source = ", ".join(str(path) for path in files or []) or source
    pipeline, problems = _parsed(Pipeline, merged)
    if pipeline is not None:
        problems = contradictions(pipeline)
    else:
        names = {
            section: set(merged[section])
            for section in _named_sections()
            if isinstance(merged.get(section), dict)
        }
        problems += contradictions(_valid_part(merged), names)
    if problems:
        raise InputError(_message(source, problems))
    return pipeline, origins


def check_files(pipeline: Pipeline) -> None:
    """Refuse a configuration that names files which are not there, before anything is planned."""
    problems = []

    def check(dotted: str, path: Path, expected: str) -> None:
        if not path.exists():
            problems.append(f"{dotted} is {str(path)!r}, and there is no such file; {expected}")

    for name, dataset in pipeline.datasets.items():
        if dataset.path:
            expected = "expected an h5ad with raw counts; correct the path or put the file there"
            check(f"datasets.{name}.path", Path(dataset.path), expected)
    for name, split in pipeline.splits.items():
        for key, path in split.files().items():
            expected = "a TSV: condition, set" if key == "path" else "a list of target genes"
            check(f"splits.{name}.{key}", Path(path), f"expected {expected}")
    for name, target_list in pipeline.target_lists.items():
        for key, path in target_list.files().items():
            expected = "genes, one a line" if key == "genes" else "a CSV: target_gene, n_cells"
            check(f"target_lists.{name}.{key}", Path(path), f"expected {expected}")
    if pipeline.gears.cell_graphs.gene2go_file():
        path = Path(pipeline.gears.cell_graphs.gene2go_file())
        check("gears.cell_graphs.gene2go", path, "expected GEARS's gene2go_all.pkl")
    for name, corpus in pipeline.preprocess.items():
        if corpus.fit.hvg_file():
            path = Path(corpus.fit.hvg_file())
            check(f"preprocess.{name}.fit.hvg_selection", path, "expected a number, or a hvg.csv")
        for key, path in corpus.vocabulary.files().items():
            if normpath(path) in pipeline.tables_of(corpus):
                continue
            expected = "expected the file that it names"
            check(f"preprocess.{name}.vocabulary.{key}", Path(path), expected)
    for name, atlas in pipeline.atlases.items():
        if atlas.orthologs:
            expected = "expected a CSV: to,from"
            check(f"atlases.{name}.orthologs", Path(atlas.orthologs), expected)
        for path in atlas.paths():
            if not any(found.exists() for found in matching(path)):
                problems.append(
                    f"atlases.{name} has the path {path!r}, and no file is called so; correct the "
                    "path or put the file there"
                )
    for name, run in pipeline.pretrain.items():
        for pattern in run.files():
            if not matching(pattern):
                problems.append(
                    f"pretrain.{name}.contrastive.panels.folder has no {pattern}; expected panels "
                    "in a folder for each species, with a column Ensembl_ID"
                )
        if run.pretrained and pipeline.run_of(run.pretrained) is None:
            expected = "expected a folder that pretrain wrote, or results/pretrain/<run>/checkpoint"
            for file in ("args.json", "vocab.json"):
                check(f"pretrain.{name}.pretrained", Path(run.pretrained) / file, expected)
    for name, run in pipeline.finetune.items():
        expected = (
            f"expected a name in pretrain ({listed(pipeline.pretrain) or 'none yet'}), or a folder "
            "with best_model.pt, args.json and vocab.json; resources/README.md says where to get "
            "scGPT's"
        )
        if run.pretrained not in pipeline.pretrain:
            for file in ("best_model.pt", "args.json", "vocab.json"):
                check(f"finetune.{name}.pretrained", Path(run.pretrained) / file, expected)
    if problems:
        raise InputError(_message("the configuration", problems))


def read_section(section: type[Section], text: str | None, overrides: list[str] = ()) -> Section:
    """Read one section from a YAML file, or from YAML (JSON too) given as text."""
    values = {}
    source = "the settings"
    if text and text.lstrip().startswith("{"):
        values = yaml.safe_load(text)
    elif text:
        source = text
        values = read_yaml(find_file(text))
    for assignment in overrides:
        values = override(values, assignment)
    parsed, problems = _parsed(section, values)
    if problems:
        raise InputError(_message(source, problems))
    return parsed


def read_sections(section: type[Section], text: str) -> dict[str, Section]:
    """Read {name: section} from a YAML file, or from YAML (JSON too) given as text."""
    as_text = text.lstrip().startswith("{")
    values = yaml.safe_load(text) if as_text else read_yaml(find_file(text))
    read = {name: _parsed(section, entry) for name, entry in values.items()}
    problems = [f"{name}.{problem}" for name, (_, found) in read.items() for problem in found]
    if problems:
        raise InputError(_message("the settings" if as_text else text, problems))
    return {name: parsed for name, (parsed, _) in read.items()}


def settings(section: Section | dict[str, Section]) -> str:
    """One line of JSON, the form in which rules hand settings to scripts."""
    if isinstance(section, dict):
        content = {name: its.model_dump(mode="json") for name, its in section.items()}
    else:
        content = section.model_dump(mode="json")
    return json.dumps(content, sort_keys=True)


def _message(source: str, problems: list[str]) -> str:
    count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
    return "\n  ".join([f"{count} in {source}:", *problems])


def _parsed(section: type[Section], values: dict) -> tuple[Section | None, list[str]]:
    try:
        return section.model_validate(values), []
    except ValidationError as error:
        return None, [explain(section, problem) for problem in error.errors()]


def _valid_part(values: dict) -> Pipeline:
    """The entries that are right in themselves, so that what lies between them is checked too."""
    whole = {}
    for name in Pipeline.model_fields:
        content = values.get(name)
        if name in _named_sections() and isinstance(content, dict):
            entries = {key: {name: {key: entry}} for key, entry in content.items()}
            whole[name] = {
                key: content[key] for key, part in entries.items() if not _parsed(Pipeline, part)[1]
            }
        elif name in values and not _parsed(Pipeline, {name: content})[1]:
            whole[name] = content
    return Pipeline.model_validate(whole)


def explain(section: type[Section], problem: dict) -> str:
    """Say one pydantic error in our words: the dotted name, the value, what was expected."""
    place = [part for part in problem["loc"] if part != "[key]"]
    dotted = ".".join(str(part) for part in place)
    if problem["type"] == "extra_forbidden":
        parent = model_at(section, place[:-1])
        first, dot, rest = str(place[-1]).partition(".")
        if dot and first in parent.model_fields:
            return f"{dotted} is not a setting; write it as {first}: {{{rest}: ...}}"
        near = difflib.get_close_matches(str(place[-1]), parent.model_fields, n=1, cutoff=0.5)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else f"the keys are {listed(parent.model_fields, 30)}."
        )
        return f"{dotted} is not a setting; {hint}"
    if problem["type"] == "missing":
        parent = model_at(section, place[:-1])
        return f"{dotted} is missing; expected {parent.model_fields[place[-1]].description}"
    reason = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if isinstance(problem["input"], dict) and problem["type"] == "value_error":
        return f"{dotted}: {reason}" if dotted else reason
    return f"{dotted} is {problem['input']!r}; {reason}"


def model_at(section: type[Section], place: list) -> type[Section]:
    """Follow a place into nested sections: model_at(Pipeline, ["pretrain", "x", "optimizer"])."""
    for part in place:
        if isinstance(section, type) and issubclass(section, BaseModel):
            if part not in section.model_fields:
                break
            section = _unwrapped(section.model_fields[part].annotation)
        else:
            section = _unwrapped(typing.get_args(section)[-1])
    return section


def _unwrapped(annotation):
    """`Download | None` -> Download."""
    options = [option for option in typing.get_args(annotation) if option is not type(None)]
    if len(options) == 1 and typing.get_origin(annotation) is not list:
        return options[0]
    return annotation


def values_of(section: Section, prefix: str = "") -> dict[str, object]:
    """Every value by its dotted name: {"eval.summary.seed": 0, ...}."""
    found = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        dotted = _join(prefix, name)
        if isinstance(value, Section):
            found |= values_of(value, dotted)
        elif isinstance(value, dict) and all(
            isinstance(entry, Section) for entry in value.values()
        ):
            for key, entry in value.items():
                found |= values_of(entry, f"{dotted}.{key}")
        else:
            found[dotted] = value
    return found


def origin_of(dotted: str, origins: Origins) -> str:
    """File and line of a value, or of the mapping it came with; else it is a default."""
    while dotted:
        if dotted in origins:
            return origins[dotted]
        dotted = dotted.rpartition(".")[0]
    return "default"
