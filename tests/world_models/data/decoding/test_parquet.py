"""Rows of Parquet files: ranges over row groups, and what is left unread."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from v2w_gym.world_models.data.decoding.parquet import ParquetRows, read_pictures

COUNT = 25
PICTURES = [{"bytes": bytes([row]) * 2000, "path": f"{row}.png"} for row in range(COUNT)]
TABLE = pa.table(
    {
        "step": np.arange(COUNT),
        "action": pa.array([[row, -row] for row in range(COUNT)], pa.list_(pa.float32())),
        "action.more": np.zeros(COUNT),
        "gripper": pa.array([[row] for row in range(COUNT)], pa.list_(pa.float64(), 1)),
        "text": [f"row {row}" for row in range(COUNT)],
        "picture": PICTURES,
        "ragged": [[0.0] * (row % 3) for row in range(COUNT)],
        "matrix": [[[0.0]]] * COUNT,
    }
)


@pytest.fixture(params=[1, 7, 100], ids="row groups of {}".format)
def path(request, tmp_path):
    pq.write_table(TABLE, tmp_path / "rows.parquet", row_group_size=request.param)
    return tmp_path / "rows.parquet"


@pytest.mark.parametrize(("start", "stop"), [(0, 25), (0, 1), (6, 8), (7, 14), (24, 25), (3, 22)])
def test_any_range_of_rows(path, start, stop):
    rows = ParquetRows(path, ["step", "action", "gripper", "text"])
    assert rows.count == COUNT
    for _ in range(2):
        found = rows.read(start, stop)
        expected = np.arange(start, stop)
        np.testing.assert_array_equal(found["step"], expected)
        np.testing.assert_array_equal(found["action"], np.stack([expected, -expected], axis=1))
        np.testing.assert_array_equal(found["gripper"], expected)
        assert found["text"].tolist() == [f"row {row}" for row in expected]
    assert list(read_pictures(path, "picture", start, stop)) == PICTURES[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(0, 26), (5, 5), (-1, 3)])
def test_rows_that_a_file_lacks(path, start, stop):
    with pytest.raises(ValueError, match=f"expected rows {start} to {stop} in .*, found 25 rows"):
        ParquetRows(path, ["step"]).read(start, stop)


@pytest.mark.parametrize("name", ["ragged", "matrix"])
def test_lists_of_several_sizes_and_matrices(path, name):
    with pytest.raises(ValueError, match=f"a list of as many numbers, in every row of {name}"):
        ParquetRows(path, [name]).read()


def test_a_column_by_another_name(path):
    with pytest.raises(ValueError, match="expected a column 'steps' in .*; did you mean 'step'"):
        ParquetRows(path, ["steps"])


def test_other_row_groups_are_not_read(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(TABLE, path, row_group_size=5, compression="NONE", use_dictionary=False)
    names = TABLE.schema.names
    chunk = pq.read_metadata(path).row_group(2).column(names.index("picture"))
    assert chunk.path_in_schema == "picture.bytes"
    stored = bytearray(path.read_bytes())
    stored[chunk.data_page_offset : chunk.data_page_offset + 50] = bytes(50)
    path.write_bytes(stored)
    assert list(read_pictures(path, "picture", 0, 10)) == PICTURES[:10]
    assert list(read_pictures(path, "picture", 15, 25)) == PICTURES[15:]
    np.testing.assert_array_equal(ParquetRows(path, ["step"]).read(12, 13)["step"], [12])
    with pytest.raises(ValueError, match="expected a whole Parquet file at .*rows.parquet, found"):
        list(read_pictures(path, "picture", 10, 15))
