"""Pseudonyms: ids of people replaced by a keyed hash of them, where rows enter a night.

The pseudonym of an id is the first 8 bytes, as a signed big-endian integer, of HMAC-SHA-256 (RFC 2104) of its decimal
digits. Equal keys give equal pseudonyms, so nights join, and who has the key can look an id up; nobody else can, by
trying all ids either. Two of n ids share a pseudonym with a chance of n²/2⁶⁵: 3 % for 10⁹ ids.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.config import Config

IDS = ("user_id", "author_id")
"""Columns that say who: an author is a user."""
SHORTEST_KEY = 32
"""Bytes."""
_BLOCK = 64
"""Bytes of SHA-256."""


def key_of(conf: Config) -> bytes | None:
    """The key that ingest.pseudonym_key names; None where ids stay as they are. ValueError where it is not there."""
    kind, _, name = conf.ingest.pseudonym_key.partition(":")
    if not kind:
        return None
    found = os.environ.get(name, "").encode() if kind == "env" else _content(name)
    if len(found) < SHORTEST_KEY:
        where = f"the environment variable {name}" if kind == "env" else f"the file {name}"
        raise ValueError(
            f"ingest.pseudonym_key: {where} must hold a key of at least {SHORTEST_KEY} bytes, holds {len(found)}: "
            "make one with `openssl rand -hex 32`, and keep it, since another one gives everybody another pseudonym"
        )
    return found


def fingerprint(key: bytes) -> str:
    """Tells keys apart, and nothing about them."""
    return hmac.new(key, b"fingerprint", hashlib.sha256).hexdigest()[:16]


def applied(rows: DataFrame, key: bytes) -> DataFrame:
    """The rows with pseudonyms for ids. Cost: a map; two SHA-256 of 72 to 96 bytes an id, in the JVM.

    The key comes with a row that is joined to all others: a literal would stand in Spark's plans, and so in its logs
    and pages.
    """
    ids = [name for name in rows.columns if name in IDS]
    if not ids:
        return rows
    pads = pa.table({f"_{byte:02x}": [_pad(key, byte)] for byte in (0x36, 0x5C)})
    keyed = rows.crossJoin(F.broadcast(rows.sparkSession.createDataFrame(pads)))
    return keyed.withColumns({name: _pseudonym(F.col(name)) for name in ids}).select(*rows.columns)


def _pseudonym(id: Column) -> Column:
    inner = F.unhex(F.sha2(F.concat("_36", id.cast("string").cast("binary")), 256))
    digest = F.sha2(F.concat("_5c", inner), 256)
    return F.conv(F.substring(digest, 1, 16), 16, -10).cast("bigint")


def _pad(key: bytes, byte: int) -> bytes:
    block = hashlib.sha256(key).digest() if len(key) > _BLOCK else key
    return bytes(b ^ byte for b in block.ljust(_BLOCK, b"\0"))


def _content(path: str) -> bytes:
    return Path(path).read_bytes().strip() if Path(path).is_file() else b""
