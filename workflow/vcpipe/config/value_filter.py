"""Conditions on columns, as SOMA writes them: made of a mapping, or given as text and looked into.

SOMA parses them as Python expressions, so names and values are quoted as Python quotes them.
"""

import ast
import keyword
import math

Value = str | bool | int | float
EXAMPLE = "tissue == 'brain' and is_primary_data == True"


def filter_text(filters: dict[str, Value | list[Value]]) -> str:
    """All conditions at once: {"n": 3, "tissue": ["a", "b"]} is n == 3 and tissue in ['a', 'b']."""
    return " and ".join(_condition(column, value) for column, value in filters.items())


def _condition(column: str, value: Value | list[Value]) -> str:
    plain = column.isidentifier() and not keyword.iskeyword(column)
    name = column if plain else f"attr({column!r})"
    values = value if isinstance(value, list) else [value]
    if len(values) == 1:
        return f"{name} == {values[0]!r}"
    if all(isinstance(each, str) for each in values):
        return f"{name} in {values!r}"
    # tiledbsoma 2.3 refuses true, false and negative numbers in a list.
    return "(" + " or ".join(f"{name} == {each!r}" for each in values) + ")"


def refuse_other_values(filters: dict) -> None:
    """Raise ValueError where a value is none that a column can equal."""
    for column, value in filters.items():
        if value == []:
            raise ValueError(f"filters.{column} is []; expected at least one value")
        for each in value if isinstance(value, list) else [value]:
            number = isinstance(each, int | float) and math.isfinite(each)
            if not number and not isinstance(each, str):
                raise ValueError(
                    f"filters.{column} is {value!r}; expected text, a number, true or false, or a "
                    "list of these (dates in quotes)"
                )


def columns_of(text: str) -> list[str]:
    """The columns that a condition names; ValueError where SOMA cannot read it."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"expected a condition such as {EXAMPLE} ({error})") from error
    found = []
    functions = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Not):
            # tiledbsoma 2.3 crashes at it before most conditions, without a message.
            raise ValueError("expected no 'not' before a condition; write a != 1 or a not in [1]")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            functions.add(node.func)
            if node.func.id == "attr":
                found += [part.value for part in node.args if isinstance(part, ast.Constant)]
        elif isinstance(node, ast.Name) and node not in functions:
            found.append(node.id)
    return list(dict.fromkeys(found))


# What a value in the configuration is, by the column's kind; a bool is an int, and comes first.
FITTING = {
    "text": (str,),
    "true or false": (bool,),
    "whole numbers": (int,),
    "numbers": (int, float),
}


def misfits(filters: dict, kinds: dict[str, str]) -> list[str]:
    """Values that their column cannot hold; SOMA would round 1.5 to 1 without a word."""
    return [
        f"filters.{column} is {each!r}, but {column} holds {kinds[column]}"
        for column, value in filters.items()
        if column in kinds
        for each in (value if isinstance(value, list) else [value])
        if not _fits(each, kinds[column])
    ]


def _fits(value: Value, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "true or false"
    return isinstance(value, FITTING[kind]) and kind != "true or false"
