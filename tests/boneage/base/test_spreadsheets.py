"""Tables that spreadsheets open: no cell is a formula, numbers stay numbers, and what was written is read again."""

import csv
import io
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boneage.base.spreadsheets import escape_cell, format_frame, format_rows, unescape_cell

FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1",
    "\rx",
    ' "=1',
    "a;=1",
    'a;"=1',
    "a\n+1+1",
    "'=1",
    "\uff1d1",
    "-2+3|cmd",
]
TEXTS = ["1377.png", "-1.5", "+3", "-1,5", "1e-5", "a=1", "a-b", "a;b", "", "no_sex;too_dark"]
DANGEROUS = re.compile(r"^['\" ]*[=+@\t\r\n-]")


@pytest.mark.parametrize("cell", FORMULAS)
def test_escape_cell_leaves_no_formula(cell):
    escaped = escape_cell(cell)
    assert all(part.startswith("'") or not DANGEROUS.match(part) for part in re.split("[;\t\n\r]", escaped))
    assert unescape_cell(escaped) == cell


@pytest.mark.parametrize("cell", TEXTS)
def test_escape_cell_leaves_numbers_and_texts_alone(cell):
    assert escape_cell(cell) == cell
    assert unescape_cell(cell) == cell


@given(st.text(alphabet="=+-@;,'\" \t\r\n1a", max_size=12))
def test_unescape_cell_is_the_inverse(cell):
    escaped = escape_cell(cell)
    assert unescape_cell(escaped) == cell
    if escaped != cell:
        assert escaped.replace("'", "") == cell.replace("'", "")


def read_in_german(text):
    """The cells as a spreadsheet in German reads a table that commas separate."""
    return [cell for row in csv.reader(io.StringIO(text), delimiter=";") for cell in row]


def test_format_rows_holds_where_semicolons_separate():
    text = format_rows([("id", "detail"), ("a;=cmd|' /C calc'!A0", "=1"), ("x", -1.5), ("y", None)])
    assert list(csv.reader(io.StringIO(text)))[2:] == [["x", "-1.5"], ["y", ""]]
    assert not any(cell.startswith(("=", "+", "@", "-")) for cell in read_in_german(text))


def test_format_frame_escapes_texts_and_keeps_numbers():
    frame = pd.DataFrame(
        {"id": ["=1", "b"], "months": [-1.25, float("nan")], "count": [-1, 2], "accepted": [True, False]}
    )
    assert format_frame(frame, float_format="%.2f") == "id,months,count,accepted\n'=1,-1.25,-1,True\nb,,2,False\n"
    mixed = pd.DataFrame({"value": ["-x", -1, None]}, dtype=object)
    assert format_frame(mixed) == 'value\n\'-x\n-1\n""\n'
