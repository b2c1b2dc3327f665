"""Housing.csv: min-max over the whole table, and every way a table can be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from cnnjax.data import load_dataset
from cnnjax.errors import InputError

HEADER = "price,area,bedrooms,bathrooms,stories,mainroad,parking"
ROWS = ("100,50,2,1,1,yes,0", "300,150,4,3,2,no,2", "150,100,3,2,3,yes,1")


def write(folder, *lines, name="Housing.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(f"{line}\n" for line in lines))


def error_of(folder) -> str:
    with pytest.raises(InputError) as caught:
        load_dataset("housing", data_dir=str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("where", [".", "housing"])
def test_min_max_over_the_whole_table(tmp_path, where):
    write(tmp_path / where, HEADER, *ROWS)
    housing = load_dataset("housing", data_dir=str(tmp_path))
    assert housing.test is None
    assert housing.num_classes == 0
    assert housing.train.inputs.dtype == housing.train.labels.dtype == np.float32
    # Columns: area, bedrooms, bathrooms, stories, parking.
    expected = [[0, 0, 0, 0, 0], [1, 1, 1, 0.5, 1], [0.5, 0.5, 0.5, 1, 0.5]]
    np.testing.assert_array_equal(housing.train.inputs, expected)
    np.testing.assert_array_equal(housing.train.labels, [[0], [1], [0.25]])


def test_columns_are_found_by_name_and_a_byte_order_mark_is_no_part_of_one(tmp_path):
    lines = [",".join(line.split(",")[::-1]) for line in (HEADER, *ROWS)]
    write(tmp_path / "reversed", *lines)
    write(tmp_path / "mark", "\ufeff" + HEADER, *ROWS)
    for folder in ("reversed", "mark"):
        housing = load_dataset("housing", data_dir=str(tmp_path / folder))
        np.testing.assert_array_equal(housing.train.labels, [[0], [1], [0.25]])
        np.testing.assert_array_equal(housing.train.inputs[:, 0], [0, 1, 0.5])


def test_without_a_folder_the_file_is_named():
    with pytest.raises(InputError, match=r"never downloaded.*Housing\.csv.*--data_dir"):
        load_dataset("housing")


def test_missing_columns_are_named(tmp_path):
    write(tmp_path, "price,area,bedrooms,bathrooms", "1,2,3,4")
    assert error_of(tmp_path).endswith("missing stories, parking")


@pytest.mark.parametrize("cell", ["many", "", "nan", "inf", "-inf", "1e999", "1,5"])
def test_a_cell_that_is_no_finite_number_is_named(tmp_path, cell):
    write(tmp_path, HEADER, ROWS[0], ROWS[1].replace("150", f'"{cell}"'))
    assert error_of(tmp_path) == (
        f"{tmp_path}/Housing.csv, line 3: expected a finite number in column 'area', "
        f"got {cell!r}"
    )


def test_rows_that_are_too_short_or_too_long(tmp_path):
    write(tmp_path, HEADER, "100,50,2,1")
    assert error_of(tmp_path).endswith("in column 'stories', got None")
    write(tmp_path, HEADER, f"{ROWS[0]},7")
    assert error_of(tmp_path).endswith("line 2: expected as many cells as the header")


def test_empty_tables(tmp_path):
    write(tmp_path, HEADER)
    assert error_of(tmp_path).endswith("got an empty table")
    write(tmp_path)
    assert "missing area, bedrooms" in error_of(tmp_path)


def test_a_constant_column_cannot_be_scaled(tmp_path):
    write(tmp_path, HEADER, ROWS[0], ROWS[1].replace("150,4", "150,2"))
    assert "in column 'bedrooms', got 2 in every row" in error_of(tmp_path)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "Housing.csv").write_bytes(b"\xff\xfe\x00\x80")
    assert "not a CSV file" in error_of(tmp_path)
