"""${section.key} in a YAML file, as OmegaConf has it."""

import re

from vcpipe.errors import InputError

REFERENCE = re.compile(r"\$\{([^}]+)\}")
DEEPEST = 8  # references to references


def interpolated(values: dict) -> dict:
    """The same with every ${section.key}, or ${.key} beside it, replaced by its value."""
    for _ in range(DEEPEST):
        replaced = _replaced(values, values, values)
        if replaced == values:
            return values
        values = replaced
    raise InputError("References of the file, ${...}, lead in a circle; write their values out.")


def _replaced(value, beside: dict, whole: dict):
    if isinstance(value, dict):
        return {key: _replaced(its, value, whole) for key, its in value.items()}
    if isinstance(value, list):
        return [_replaced(each, beside, whole) for each in value]
    if not isinstance(value, str):
        return value
    alone = REFERENCE.fullmatch(value)
    if alone:
        return _looked_up(alone[1], beside, whole)
    return REFERENCE.sub(lambda match: str(_looked_up(match[1], beside, whole)), value)


def _looked_up(dotted: str, beside: dict, whole: dict):
    found = beside if dotted.startswith(".") else whole
    for key in dotted.lstrip(".").split("."):
        if not isinstance(found, dict) or key not in found:
            raise InputError(f"${{{dotted}}} stands for nothing in this file; write the value out.")
        found = found[key]
    return found
