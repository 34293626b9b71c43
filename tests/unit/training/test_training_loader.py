"""Petastorm and Arrow deliver the same columns, and refuse the same tables."""

import contextlib
import dataclasses
import pickle
import shutil

import diskcache
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from petastorm import make_batch_reader
from petastorm.etl.dataset_metadata import UNISCHEMA_KEY, get_schema_from_dataset_url

from almmta_spark.training import loader, sample_table

DISK_CACHE = {"cache_type": "local-disk", "cache_size_limit": 10**9, "cache_row_size_estimate": 100}


def shuffled_groups(table):
    return [table.row_groups[i] for i in np.random.default_rng(1).permutation(len(table.row_groups))]


def assert_equal_columns(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype, name
        np.testing.assert_array_equal(first[name], second[name])


def test_both_loaders_deliver_equal_batches(sample):
    table = sample.open()
    groups, columns = shuffled_groups(table), loader.columns_needed(sample.spec)
    arrow = list(loader.read_arrow(table, groups, columns))
    stacked = list(loader.read_petastorm(table, groups, columns))
    assert len(arrow) == len(stacked) == 8
    for first, second in zip(arrow, stacked, strict=True):
        assert_equal_columns(first, second)


def test_the_flattened_decoder_equals_petastorms_own(sample):
    from petastorm import make_batch_reader

    names = ["journey_id", "age_hours", "item_id", "outcome", "negative_cluster_index"]
    table = sample.open()
    urls = [f"file://{table.folder.path_of(name)}" for name in table.folder.names()]
    options = {"shuffle_row_groups": False, "reader_pool_type": "dummy", "schema_fields": names}
    with make_batch_reader(urls, **options) as stock:
        theirs = [batch._asdict() for batch in stock]
    ours = list(loader.read_petastorm(table, table.row_groups, names))
    assert len(theirs) == len(ours)
    for first, second in zip(theirs, ours, strict=True):
        assert_equal_columns(dict(sorted(first.items())), second)


def test_only_needed_columns_are_read(sample):
    columns = loader.columns_needed(sample.spec)
    assert "user_id" in columns and "touch_embedding" not in columns
    assert "touch_embedding" in loader.columns_needed(dataclasses.replace(sample.spec, touch_embeddings=True))
    table = sample.open()
    assert set(next(loader.read_petastorm(table, table.row_groups[:1], columns))) == set(columns)


@pytest.mark.parametrize("name", ["petastorm", "arrow"])
def test_a_table_on_a_remote_url_is_read(sample, name):
    local = sample.open()
    remote = fsspec.filesystem("memory")
    for file in local.folder.names():
        remote.pipe(f"/bucket/examples/{file}", local.folder.read(file))
    table = loader.open_table("memory://bucket/examples", sample.spec)
    got = list(loader.READERS[name](table, table.row_groups, loader.columns_needed(sample.spec)))
    assert sum(len(columns["journey_id"]) for columns in got) == 600


def test_bookkeeping_files_are_not_the_table(sample, tmp_path):
    spec = sample_table.write(tmp_path, 50)
    (tmp_path / "_SUCCESS").write_bytes(b"")
    (tmp_path / ".part.crc").write_bytes(b"x")
    assert loader.open_table(str(tmp_path), spec).num_rows == 50


class Hostile:
    """Unpickled by Petastorm's own reading of a folder, whose list of safe modules holds builtins."""

    def __init__(self, leaves):
        self.code = f"open({str(leaves)!r}, 'w').close()"

    def __reduce__(self):
        return eval, (self.code,)


@pytest.mark.parametrize("num_files", [1, 2])
def test_a_pickle_planted_as_petastorms_metadata_is_not_loaded(tmp_path, num_files):
    folder, ran = tmp_path / "ds=2026-01-31", tmp_path / "ran"
    spec = sample_table.write(folder, 100)
    first, *others = sorted(folder.glob("*.parquet"))
    for other in others[num_files - 1 :]:
        spec = dataclasses.replace(spec, num_training=spec.num_training - pq.read_metadata(other).num_rows)
        other.unlink()
    planted = pq.read_schema(first).with_metadata({UNISCHEMA_KEY: pickle.dumps(Hostile(ran))})
    pq.write_metadata(planted, folder / "_common_metadata")
    table = loader.open_table(str(folder), spec)
    assert len(table.folder.names()) == num_files
    assert list(loader.read_petastorm(table, table.row_groups, ["journey_id"])) and not ran.exists()
    with contextlib.suppress(Exception):  # it is no schema; what matters is that reading it has run it
        get_schema_from_dataset_url(f"file://{folder}")
    assert ran.exists()


def test_petastorms_cache_of_pickles_is_not_opened(sample, monkeypatch, tmp_path):
    """diskcache unpickles what it finds in its folder: CVE-2025-69872, which `make audit` accepts for this reason."""

    def opened(*_, **__):
        raise AssertionError("a cache folder is opened")

    monkeypatch.setattr(diskcache.Cache, "__init__", opened)
    table = sample.open()
    assert list(loader.read_petastorm(table, table.row_groups[:1], ["journey_id"]))
    with pytest.raises(AssertionError, match="a cache folder is opened"):
        make_batch_reader(
            f"file://{table.folder.path_of(table.folder.names()[0])}", cache_location=str(tmp_path), **DISK_CACHE
        )


def test_equal_tables_have_equal_fingerprints_wherever_they_lie(tmp_path):
    first, second, third = (tmp_path / name for name in ("a", "b", "c"))
    spec = sample_table.write(first, 80, seed=1)
    sample_table.write(second, 80, seed=1)
    other = sample_table.write(third, 80, seed=2)
    prints = [loader.open_table(str(p), s).fingerprint for p, s in ((first, spec), (second, spec), (third, other))]
    assert prints[0] == prints[1] != prints[2]


def test_a_table_that_is_not_its_specs_is_refused(sample):
    wrong = dataclasses.replace(sample.spec, num_training=sample.spec.num_training + 1)
    with pytest.raises(ValueError, match=r"count 600 rows.*build the examples again"):
        loader.open_table(sample.url, wrong)


def test_an_empty_folder_is_refused(sample, tmp_path):
    with pytest.raises(ValueError, match="no rows under"):
        loader.open_table(str(tmp_path), sample.spec)


def rewritten(sample, tmp_path, name, column):
    """The sample's first file with one column replaced (None: dropped), as a table of its own."""
    folder = sample.open().folder
    table = pq.read_table(folder.path_of(folder.names()[0]))
    position = table.column_names.index(name)
    table = table.remove_column(position)
    if column is not None:
        table = table.add_column(position, name, column(table.num_rows))
    pq.write_table(table, tmp_path / "part.parquet")
    spec = dataclasses.replace(sample.spec, num_training=table.num_rows, num_validation=0)
    return loader.open_table(str(tmp_path), spec), spec


def test_a_missing_column_is_named(sample, tmp_path):
    with pytest.raises(ValueError, match=r"training_examples\.age_hours is missing"):
        rewritten(sample, tmp_path, "age_hours", None)


@pytest.mark.parametrize("name", ["petastorm", "arrow"])
@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (lambda n: pa.array([[1.0] * (3 + i % 2) for i in range(n)], pa.list_(pa.float32())), "one length, got 3 to 4"),
        (lambda n: pa.array([[1.0, None]] * n, pa.list_(pa.float32())), "no null inside its lists"),
        (lambda n: pa.array([None] + [[1.0]] * (n - 1), pa.list_(pa.float32())), "no null, got 1"),
    ],
)
def test_lists_the_loader_cannot_stack_are_refused(sample, tmp_path, name, column, reason):
    table, spec = rewritten(sample, tmp_path, "covariates", column)
    with pytest.raises(ValueError, match=rf"training_examples\.covariates.*{reason}"):
        list(loader.READERS[name](table, table.row_groups, loader.columns_needed(spec)))


def spoilt(sample, folder, row_group):
    """The sample with one row group of its second file overwritten, footers as they were; where it lies."""
    shutil.copytree(sample.url, folder)
    path = sorted(folder.glob("*.parquet"))[1]
    group = pq.ParquetFile(path).metadata.row_group(row_group)
    columns = [group.column(c) for c in range(group.num_columns)]
    start = min(c.dictionary_page_offset or c.data_page_offset for c in columns)
    content = bytearray(path.read_bytes())
    content[start : start + group.total_byte_size // 2] = b"\xff" * (group.total_byte_size // 2)
    path.write_bytes(content[: path.stat().st_size])
    return path


@pytest.mark.parametrize("name", ["petastorm", "arrow"])
def test_a_broken_row_group_is_named_with_its_file(sample, tmp_path, name):
    path = spoilt(sample, tmp_path / "spoilt", row_group=1)
    table = loader.open_table(str(path.parent), sample.spec)
    read = loader.READERS[name](table, table.row_groups, loader.columns_needed(sample.spec))
    whole = [next(read) for _ in table.row_groups[: len(table.row_groups) // 2 + 1]]
    assert sum(len(part["journey_id"]) for part in whole) > 0, "those before it are read"
    with pytest.raises(ValueError, match=rf"^training_examples: row group 1 of {path} cannot be read .*build the exam"):
        next(read)


@pytest.mark.parametrize("content", [b"", b"user_id,item_id", b"PAR1" * 3])
def test_a_file_without_a_footer_is_named(sample, tmp_path, content):
    shutil.copytree(sample.url, tmp_path / "cut")
    path = sorted((tmp_path / "cut").glob("*.parquet"))[0]
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"^training_examples: the footer of {path} cannot be read .*build the exampl"
    ):
        loader.open_table(str(path.parent), sample.spec)
