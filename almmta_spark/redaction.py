"""Secrets out of what people read: settings, addresses, messages and tracebacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_NAME = r"(?:secret|password|passwd|token|credential|[._]sas[._]|(?:access|account|private|api)[._-]?key)"
_SECRET = re.compile(_NAME, re.IGNORECASE)
_CREDENTIALS = re.compile(
    r"(?<=://)[^/\s'\"]+(?=@)|(?<=[?&]password=)[^&\s'\"]+|(?<=[?&]sig=)[^&\s'\"]+|(?<=\bBearer )[\w.~+/=-]+",
    re.IGNORECASE,
)
"""In a URL: all between :// and the last @ before the path, a password and a signature among the parameters. In a
header: what comes after Bearer."""
_ASSIGNED = re.compile(
    rf"""([\w.-]*{_NAME}[\w.-]*["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;&'")}}\]]+)""",
    re.IGNORECASE,
)
"""name=value or "name": value of what is called like a secret."""


def redacted(settings: Any, key: str = "") -> Any:
    """The settings with the values of keys that look like secrets, and what text says of secrets, replaced."""
    if isinstance(settings, Mapping):
        return {k: redacted(v, k) for k, v in settings.items()}
    if _SECRET.search(key) and settings:
        return HIDDEN
    if isinstance(settings, (list, tuple)):
        return [redacted(value) for value in settings]
    return text(settings) if isinstance(settings, str) else settings


def text(said: str) -> str:
    """A message without the secrets that can be told by their names, or by their place in a URL."""
    return _ASSIGNED.sub(rf"\1{HIDDEN}", _CREDENTIALS.sub(HIDDEN, said))
