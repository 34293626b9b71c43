"""Our messages on stderr, as text for people or as a JSON object a line for machines; secrets are taken out of both.

What happens to a stage is an event: its message says it to people, its fields to machines.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from almmta_spark import redaction
from almmta_spark.config import LOG_FORMATS

log = logging.getLogger("almmta")


class TextLines(logging.Formatter):
    """12:34:56 message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it where there is one."""
        return redaction.text(super().format(record))


class JsonLines(logging.Formatter):
    """time (ISO 8601, UTC), level, message, the fields of an event, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage().strip(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(redaction.redacted(said))


def event(name: str, message: str, level: int = logging.INFO, **fields: Any) -> None:
    """Says what happened: the message to people, event=name and the fields to machines."""
    log.log(level, "%s", message, extra={"fields": {"event": name, **fields}})


def set_up(kind: str = LOG_FORMATS[0]) -> None:
    """Our own messages to stderr in a format, tracebacks among them; of libraries' only warnings. May be repeated."""
    handler = _handler()
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    handler.setFormatter({"text": TextLines, "json": JsonLines}[kind]())
    log.setLevel(logging.INFO)
    sys.excepthook = _say_traceback


@functools.cache
def _handler() -> logging.Handler:
    return logging.StreamHandler(sys.stderr)


def _say_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What the interpreter prints of an error that nobody caught."""
    log.critical("failed: %s", kind.__name__, exc_info=(kind, error, trace))
