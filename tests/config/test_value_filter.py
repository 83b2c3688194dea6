"""Filters of the census: what a mapping says in SOMA's words, and what is refused."""

import ast
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpipe.config.atlases import Census
from vcpipe.config.reading import read_section
from vcpipe.config.value_filter import columns_of, filter_text, misfits
from vcpipe.errors import InputError


def test_values_of_every_kind_are_written_as_soma_reads_them():
    filters = {"tissue": "brain", "is_primary_data": True, "n": 3, "share": 0.5}
    assert filter_text(filters) == (
        "tissue == 'brain' and is_primary_data == True and n == 3 and share == 0.5"
    )


def test_a_list_is_any_of_its_values():
    assert filter_text({"tissue": ["brain", "heart"]}) == "tissue in ['brain', 'heart']"
    assert filter_text({"tissue": ["brain"]}) == "tissue == 'brain'"


def test_lists_that_soma_refuses_become_alternatives_in_parentheses():
    text = filter_text({"n": [-1, 2], "flag": [True, False]})
    assert text == "(n == -1 or n == 2) and (flag == True or flag == False)"


def test_a_column_that_is_no_name_is_called_by_a_function():
    text = filter_text({"cell type": "B", "orig.ident": "x", "in": 1})
    assert text == "attr('cell type') == 'B' and attr('orig.ident') == 'x' and attr('in') == 1"
    assert columns_of(text) == ["cell type", "orig.ident", "in"]


@given(st.text(), st.lists(st.text(), min_size=2))
def test_quotes_and_backslashes_survive(value, values):
    parsed = ast.parse(filter_text({"a": value, "b": values}), mode="eval").body
    one, several = (part.comparators[0] for part in parsed.values)
    assert ast.literal_eval(one) == value
    assert ast.literal_eval(several) == values


def test_columns_are_found_in_any_condition():
    text = "tissue == 'a == b' and (nnz > 3 or 2 < attr('raw sum') < 5) and val('x') == donor"
    assert sorted(columns_of(text)) == ["donor", "nnz", "raw sum", "tissue"]


@pytest.mark.parametrize("text", ["tissue = 'brain'", "tissue ==", "", "'a' b", "a == '\0'"])
def test_text_that_is_no_condition_is_refused(text):
    with pytest.raises(InputError, match=r"obs_value_filter is .* expected a condition such as"):
        read_section(Census, None, [f"obs_value_filter={text!r}"])


def test_a_negation_is_refused_because_the_reader_crashes_at_it():
    with pytest.raises(InputError, match=r"write a != 1 or a not in \[1\]"):
        read_section(Census, None, ["var_value_filter=not (a in [1])"])
    assert columns_of("a not in [1]") == ["a"]


def test_both_filters_of_cells_are_refused():
    with pytest.raises(InputError, match="filters and obs_value_filter are both set"):
        read_section(Census, None, ["filters={tissue: brain}", "obs_value_filter=nnz > 3"])


@pytest.mark.parametrize("value", ["null", "[]", "{a: 1}", "[[1]]", ".nan", "2020-01-01", "[a, ~]"])
def test_a_value_that_no_column_can_equal_is_refused(value):
    with pytest.raises(InputError, match=r"filters\.day is "):
        read_section(Census, None, [f"filters={{day: {value}}}"])


def test_values_must_fit_their_column():
    kinds = {"n": "whole numbers", "share": "numbers", "flag": "true or false", "name": "text"}
    fitting = {"n": [1, -2], "share": [1, 0.5], "flag": True, "name": "1", "unknown": None}
    assert misfits(fitting, kinds) == []
    assert misfits({"n": 1.5}, kinds) == ["filters.n is 1.5, but n holds whole numbers"]
    assert len(misfits({"n": True, "share": "1", "flag": [0, 1], "name": 3}, kinds)) == 5


def test_a_release_may_be_written_as_a_date():
    assert Census(census_version=date(2025, 1, 30)).census_version == "2025-01-30"
    assert read_section(Census, None, ["census_version=2025-01-30"]).census_version == "2025-01-30"


def test_kept_columns_are_those_of_the_filter_and_those_asked_for():
    census = Census(filters={"tissue": "brain", "nnz": 3}, obs_columns=["donor_id", "tissue"])
    assert census.columns() == ["tissue", "nnz", "donor_id"]
    keeping = census.keeping(["cell_type", None, "donor_id", "cell_type"])
    assert keeping.columns() == ["tissue", "nnz", "donor_id", "cell_type"]
    assert Census().columns() == []
    assert Census().cell_filter() is None
