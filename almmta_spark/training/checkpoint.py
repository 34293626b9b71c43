"""Checkpoints: written whole or not at all, and read without running anything that is in them."""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Mapping
from typing import Any

import torch

from almmta_spark.training.folder import Folder

log = logging.getLogger("almmta.training")

_NAME = re.compile(r"checkpoint-(\d{4,})\.pt")
KEPT = 2
"""Newest checkpoints left in the folder: the last one, and the one before in case a disk spoils the last."""


def save(folder: Folder, epoch: int, state: Mapping[str, Any]) -> str:
    """Write the state after `epoch` epochs and drop checkpoints older than the KEPT newest; the file's name."""
    whole = dict(state) | {"epoch": epoch}
    buffer = io.BytesIO()
    torch.save(whole | {"content": _content_digest(whole)}, buffer)
    name = f"checkpoint-{epoch:04d}.pt"
    folder.write(name, buffer.getvalue())
    for old in _names(folder)[:-KEPT]:
        folder.remove(old)
    return name


def load(content: bytes, source: str) -> dict[str, Any]:
    """The state in a checkpoint's bytes. ValueError, naming the file, unless it is intact tensors and plain values."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        intact = isinstance(state, dict) and state.get("content") == _content_digest(state)
    except Exception as error:  # a hostile or broken file may fail in any way; none of its code has run
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ValueError(f"checkpoint {source} is refused, it is broken or not ours ({reason}): delete it") from None
    if not intact:
        raise ValueError(f"checkpoint {source} is refused, its content does not match its digest: delete it")
    return dict(state)


def newest(folder: Folder, request_digest: str) -> tuple[str, bytes] | None:
    """Name and bytes of the newest intact checkpoint of this very request; None where there is none.

    Refused files are named in the log and passed over: an older one, or the beginning, is always right.
    """
    for name in reversed(_names(folder)):
        content = folder.read(name)
        try:
            state = load(content, folder.path_of(name))
        except ValueError as error:
            log.warning("%s", error)
            continue
        if state.get("request") == request_digest:
            return name, content
        log.info("checkpoint %s is of another request (data, settings, seed or code differ): not used", name)
    return None


def discard(folder: Folder) -> None:
    """Remove every checkpoint: a new beginning must not count those of another request among its newest."""
    for name in _names(folder):
        folder.remove(name)


def _names(folder: Folder) -> list[str]:
    """Checkpoints in the folder, oldest first."""
    found = [(int(match[1]), name) for name in folder.names() if (match := _NAME.fullmatch(name))]
    return [name for _, name in sorted(found)]


def _content_digest(state: Mapping[str, Any]) -> str:
    """SHA-256 over all tensors and values: torch's file format does not notice a flipped bit."""
    sha = hashlib.sha256()

    def visit(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            sha.update(f"{value.dtype}{tuple(value.shape)}".encode())
            sha.update(flat.view(torch.uint8).numpy().tobytes())
        elif isinstance(value, Mapping):
            for key in value:
                visit(str(key))
                visit(value[key])
        elif isinstance(value, (list, tuple)):
            for item in value:
                visit(item)
        else:
            sha.update(repr(value).encode())

    visit({key: state[key] for key in sorted(state) if key != "content"})
    return sha.hexdigest()
