"""The page: contents in, HTML out. Nothing is read here but the template; what stands where is its business."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from almmta_spark.evaluation.diagnostics import FAIL, PASS, WARN
from almmta_spark.report import numbers, sections
from almmta_spark.report.contents import Contents
from almmta_spark.report.trends import moved_clusters, movement, verdict_changes
from almmta_spark.report.verdict import Verdict, verdict
from almmta_spark.report.worth import worth

MARKS = {PASS: "✓", WARN: "!", FAIL: "✕"}
MOST_MOVED = 8


def html(contents: Contents) -> str:
    """The whole page: no script, no font, no picture from elsewhere."""
    found, moved = verdict(contents), moved_clusters(contents)
    page = _environment().get_template("page.html.j2")
    return page.render(
        c=contents,
        verdict=found,
        marks=MARKS,
        headline=sections.headline_figures(contents, found),
        trends=sections.trend_rows(contents),
        verdict_changes=verdict_changes(contents),
        movement=numbers.percent(movement(contents)),
        moved=sections.moved_rows(moved[:MOST_MOVED]),
        num_moved=len(moved),
        areas=sections.area_tables(contents),
        groups=sections.groups(contents),
        worth=worth(contents),
        overlap=sections.overlap(found),
        accounts=sections.accounts(contents),
        journeys=sections.journeys(contents),
        truth=sections.truth(contents),
        overlap_picture=_data_uri(contents.overlap_picture) if contents.overlap_picture else None,
        short=numbers.short,
        level=numbers.percent(contents.level),
    )


def _environment() -> Environment:
    loader = PackageLoader("almmta_spark", "report")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["code"] = _code
    return made


def _code(text: str) -> Markup:
    """`names` between backticks in the type of code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def summary_note(found: Verdict) -> str:
    """The verdict in Markdown, for the top of the MLflow run."""
    lines = [f"**{MARKS[found.verdict]} {found.headline}**", ""]
    for area in found.areas:
        lines.append(f"- {area.question} **{area.answer}.** {' '.join(area.reasons)}".rstrip())
    whole = "The whole review: artifact `report.html`. Metrics `auuc` and `qini`: uploads per 1,000 touches."
    return "\n".join([*lines, "", whole])


def counts(found: Verdict) -> Mapping[str, int]:
    """How many of the checks that count pass, warn and fail."""
    return {word: sum(c.verdict == word for c in found.checks) for word in MARKS}
