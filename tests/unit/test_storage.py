"""Files that one writer alone creates, on each kind of storage."""

import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from almmta_spark import storage


def test_of_many_writers_one_creates_the_file_and_all_of_it(tmp_path):
    for n in range(20):
        path = tmp_path / "log" / f"{n}.json"
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda i, p=path: storage.put_new(None, str(p), b"%d" % i * 10_000), range(8)))
        assert won.count(True) == 1 and path.read_bytes() == b"%d" % won.index(True) * 10_000
    assert len(list((tmp_path / "log").iterdir())) == 20


def test_object_stores_create_by_a_conditional_put():
    url = f"memory://bucket/{uuid.uuid4().hex}/1.json"
    assert [storage.put_new(None, url, content) for content in (b"first", b"second")] == [True, False]
    assert storage.url_to_fs(url)[0].cat_file(storage.url_to_fs(url)[1]) == b"first"


@pytest.fixture
def bucket(monkeypatch):
    """s3a://bucket of a server that speaks S3 on loopback."""
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    S3FileSystem.clear_instance_cache()
    S3FileSystem().mkdir("bucket")
    yield "s3a://bucket"
    S3FileSystem.clear_instance_cache()
    server.stop()


def test_of_many_writers_to_s3_one_creates_the_object_and_all_of_it(bucket):
    for n in range(5):
        url = f"{bucket}/log/{n}.json"
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda i, to=url: storage.put_new(None, to, b"%d" % i * 10_000), range(8)))
        assert won.count(True) == 1 and S3FileSystem().cat_file(url) == b"%d" % won.index(True) * 10_000
        assert not storage.put_new(None, url, b"later")
    assert len(S3FileSystem().ls("bucket/log")) == 5


def test_hadoop_creates_by_a_rename_that_does_not_overwrite_and_replaces_by_one_that_does(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "local_path", lambda url: None)
    url = f"file://{tmp_path}/1.json"
    assert [storage.put_new(spark, url, content) for content in (b"first", b"second")] == [True, False]
    assert storage.read_bytes(spark, url) == b"first" and storage.names(spark, str(tmp_path)) == ["1.json"]
    storage.write_bytes(spark, url, b"third")
    assert storage.read_bytes(spark, url) == b"third" and storage.names(spark, str(tmp_path)) == ["1.json"]
    storage.delete(spark, url)
    assert storage.read_text(spark, url) is None


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "ds=../x", "a/b", "/etc", "a\\b", "nul\0", "ds=2026-01-15/.."])
def test_a_name_that_could_lead_out_of_its_folder_is_refused(name):
    for parts in [(name,), ("attribution", name), (name, "ds=2026-01-15")]:
        with pytest.raises(ValueError, match="must be the name of one file or folder below s3a://bucket/warehouse"):
            storage.join("s3a://bucket/warehouse", *parts)


def test_whatever_is_one_name_is_joined():
    assert storage.join("s3a://b/w/", "ds=2026-01-15", "version=a.json", "..x", "random:3") == (
        "s3a://b/w/ds=2026-01-15/version=a.json/..x/random:3"
    )


@pytest.mark.parametrize("what", ["file", "folder", "nothing"])
def test_a_file_or_a_folder_is_removed_and_nothing_is_no_error(tmp_path, what):
    path = Path(tmp_path / "gone")
    if what == "file":
        path.write_text("x")
    elif what == "folder":
        (path / "deep").mkdir(parents=True)
    storage.delete(None, str(path))
    assert not path.exists()
