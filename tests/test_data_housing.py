"""Housing.csv: min-max over the whole table, and every way a table can be wrong."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from cnnjax.base.errors import InputError
from cnnjax.data import load_dataset

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
    assert error_of(tmp_path).endswith(
        "missing stories, parking, got the header 'price,area,bedrooms,bathrooms'"
    )


@pytest.mark.parametrize("cell", ["many", "", "nan", "inf", "-inf", "1e999", "1,5"])
def test_a_cell_that_is_no_finite_number_is_named(tmp_path, cell):
    write(tmp_path, HEADER, ROWS[0], ROWS[1].replace("150", f'"{cell}"'))
    assert error_of(tmp_path) == (
        f"{tmp_path}/Housing.csv, line 3: expected a finite number that float32 holds "
        f"in column 'area', got {cell!r}"
    )


@pytest.mark.parametrize(
    "cell",
    [
        *("1_500", "_150", "1_5_0", "1e308", "-1e308", "3.5e38", "1e1_0"),
        *("\u0661\u0665\u0660", "\uff11\uff15\uff10", "0x96", "1e+", "--150"),
    ],
)
def test_a_number_is_what_a_table_calls_one_and_float32_holds_it(tmp_path, cell):
    write(tmp_path, HEADER, ROWS[0], ROWS[1].replace("150", cell), ROWS[2])
    message = error_of(tmp_path)
    assert "line 3: expected a finite number that float32 holds" in message
    assert message.endswith(f"got {cell!r}")


@pytest.mark.parametrize("cell", ["150.", "+150", "1.5e2", "1.5E+02", ".15e3", "0150"])
def test_a_number_may_be_written_in_any_of_these_ways(tmp_path, cell):
    write(tmp_path, HEADER, ROWS[0], ROWS[1].replace("150", cell), ROWS[2])
    housing = load_dataset("housing", data_dir=str(tmp_path))
    np.testing.assert_array_equal(housing.train.inputs[:, 0], [0, 1, 0.5])


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (3, '300,150,4,3,2,"no,2'),  # takes in the rest of the file
        (4, '150,100,3,2,3,yes,"1'),  # ... of which nothing is left
        (3, '300,150,4,3,2,"n\no",2'),  # closed on the next line
        (3, '300,"150"7,4,3,2,no,2'),  # 1507?
        (2, '"100,50,2,1,1,yes,0'),
        (1, HEADER.replace("mainroad", '"mainroad')),
        (1, HEADER.replace("price", '"pri\nce"')),
        (3, '300,150,4,3,2,"n""o,2'),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_quote_that_is_not_closed_on_its_line_is_refused(tmp_path, number, line, end):
    lines = [HEADER, *ROWS]
    lines[number - 1] = line
    text = "\n".join(lines).replace("\n", end)
    (tmp_path / "Housing.csv").write_bytes(text.encode())
    message = error_of(tmp_path)
    where = f"{tmp_path}/Housing.csv, line {number}: expected cells whose quotes are cl"
    assert message.startswith(where)
    assert message.endswith("close the quotes")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_quotes_that_are_closed_and_empty_lines_are_no_matter(tmp_path, end):
    quoted = [", ".join(f'"{c}"' for c in row.split(",")) for row in (HEADER, *ROWS)]
    text = end.join([*quoted[:2], "", *quoted[2:], "", ""])
    (tmp_path / "Housing.csv").write_bytes(text.encode())
    housing = load_dataset("housing", data_dir=str(tmp_path))
    np.testing.assert_array_equal(housing.train.labels, [[0], [1], [0.25]])


@pytest.mark.parametrize("name", ["housing.csv", "HOUSING.CSV", "Housing.CSV"])
@pytest.mark.parametrize("where", [".", "housing"])
def test_a_file_whose_name_differs_in_case_is_named(tmp_path, name, where):
    write(tmp_path / where, HEADER, *ROWS, name=name)
    path = tmp_path / where / name
    way_out = f"; rename {path} to Housing.csv: names are case-sensitive"
    assert error_of(tmp_path).endswith(way_out)


def test_rows_that_are_too_short_or_too_long(tmp_path):
    write(tmp_path, HEADER, "100,50,2,1")
    assert error_of(tmp_path).endswith("in column 'stories', got None")
    write(tmp_path, HEADER, f"{ROWS[0]},7")
    assert error_of(tmp_path).endswith("line 2: expected as many cells as the header")


def test_spaces_and_case_of_a_header_do_not_count(tmp_path):
    header = "Price, AREA ,bedrooms,Bathrooms, stories,mainroad,\tparking"
    write(tmp_path, header, *(row.replace(",", ", ") for row in ROWS))
    housing = load_dataset("housing", data_dir=str(tmp_path))
    np.testing.assert_array_equal(housing.train.labels, [[0], [1], [0.25]])
    np.testing.assert_array_equal(housing.train.inputs[:, 0], [0, 1, 0.5])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("price;area;stories", "separated by semicolons: save it with commas"),
        ("price\tarea\tstories", "separated by tabs: save it with commas"),
        ("13300000,7420,4", "got the header '13300000,7420,4'"),
        ("<!DOCTYPE html>", "got the header '<!DOCTYPE html>'"),
        ("cost,area,bedrooms,bathrooms,stories,parking", "missing price, got the hea"),
        ("price,area_m2,bedrooms,bathrooms,stories,parking", "missing area, got the h"),
    ],
)
def test_the_header_that_came_is_named(tmp_path, header, reason):
    write(tmp_path, header, *ROWS)
    message = error_of(tmp_path)
    assert f"got the header {header!r}" in message
    assert reason in message


@pytest.mark.parametrize("twin", ["price", "Price", " price ", "PARKING"])
def test_a_column_that_is_there_twice_is_refused(tmp_path, twin):
    write(tmp_path, f"{HEADER},{twin}", *(f"{row},1" for row in ROWS))
    column = twin.strip().lower()
    message = error_of(tmp_path)
    assert f"expected one column {column!r}, got 2 in the header" in message
    assert "delete or rename" in message


def test_a_column_that_is_not_used_may_be_there_twice(tmp_path):
    write(tmp_path, f"{HEADER},mainroad", *(f"{row},no" for row in ROWS))
    assert len(load_dataset("housing", data_dir=str(tmp_path)).train.labels) == 3


def test_a_gzipped_table_is_read(tmp_path):
    table = "\n".join((HEADER, *ROWS)).encode()
    (tmp_path / "Housing.csv").write_bytes(gzip.compress(table))
    assert len(load_dataset("housing", data_dir=str(tmp_path)).train.labels) == 3


def test_empty_tables(tmp_path):
    write(tmp_path, HEADER)
    assert error_of(tmp_path).endswith("got an empty table")
    for content in (b"", b"\n\n", b"  ", b"\xef\xbb\xbf", gzip.compress(b"")):
        (tmp_path / "Housing.csv").write_bytes(content)
        assert "expected a table, got an empty file" in error_of(tmp_path)


def test_a_constant_column_cannot_be_scaled(tmp_path):
    write(tmp_path, HEADER, ROWS[0], ROWS[1].replace("150,4", "150,2"))
    assert "in column 'bedrooms', got 2 in every row" in error_of(tmp_path)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "Housing.csv").write_bytes(b"\xff\xfe\x00\x80")
    assert "not a CSV file" in error_of(tmp_path)
    assert "but text in UTF-16; save it as UTF-8" in error_of(tmp_path)
    (tmp_path / "Housing.csv").write_bytes(b"PK\x03\x04\xff")
    assert "but a zip archive (.zip, .npz, .xlsx); unpack it" in error_of(tmp_path)
    (tmp_path / "Housing.csv").write_bytes((HEADER + ",caf\xe9").encode("latin-1"))
    assert "byte 0xe9" in error_of(tmp_path)
