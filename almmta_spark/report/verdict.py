"""Whether the night can be trusted, and for what: the checks of `diagnostics` read as answers to four questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from almmta_spark.evaluation.diagnostics import FAIL, NOT_IDENTIFIED, PASS, WARN, first_sentence
from almmta_spark.evaluation.grouped import OBSERVATIONAL_NAMES
from almmta_spark.report.contents import ALL_BUCKETS, Contents
from almmta_spark.report.numbers import decimals, interval, number, short

HEADLINES = {
    PASS: "Last night can be trusted.",
    WARN: "Last night can be used with care.",
    FAIL: "Last night must not be used.",
}
IN_PART = "Last night can be used in part."
FOUNDATIONS = ("gate", "ranking", "data", "other")
"""Questions that must not be answered with No for anything to be used."""
ANSWERS = {PASS: "Yes", WARN: "With care", FAIL: "No"}
_ORDER = (PASS, WARN, FAIL)


@dataclass(frozen=True)
class Check:
    """A row of diagnostics."""

    name: str
    value: float | None
    threshold: float | None
    verdict: str
    advice: str

    @property
    def kind(self) -> str:
        """The name without the model, bucket or table it is about."""
        return self.name.partition("/")[0]

    @property
    def about(self) -> str:
        return self.name.partition("/")[2]

    @property
    def sense(self) -> str:
        """On which side of the limit the value should lie; empty where that cannot be told."""
        if self.value is None or self.threshold is None or self.value == self.threshold:
            return ""
        return "≥" if (self.value > self.threshold) == (self.verdict == PASS) else "≤"


@dataclass(frozen=True)
class Area:
    """A question that people come with, the checks that answer it, and the answer."""

    name: str
    question: str
    verdict: str
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def answer(self) -> str:
        return ANSWERS[self.verdict]


@dataclass(frozen=True)
class Verdict:
    """What the checks of a night amount to, as a whole and area by area."""

    verdict: str
    areas: tuple[Area, ...]
    compared: tuple[Check, ...]
    """Checks of the methods that are only compared: they do not count."""

    @property
    def headline(self) -> str:
        stands = all(a.verdict != FAIL for a in self.areas if a.name in FOUNDATIONS)
        return IN_PART if self.verdict == FAIL and stands else HEADLINES[self.verdict]

    @property
    def basis(self) -> str:
        """What the headline rests on."""
        of_all, failed = len(self.checks), len(self.warnings)
        if failed:
            return f"{failed} of {of_all} checks {'does' if failed == 1 else 'do'} not pass; what follows from that:"
        if self.verdict != PASS:
            return f"All {of_all} checks pass, but not every question can be answered with Yes:"
        return f"All {of_all} checks pass."

    @property
    def checks(self) -> list[Check]:
        """Those that count."""
        return [check for area in self.areas for check in area.checks]

    @property
    def warnings(self) -> list[Check]:
        return [check for check in self.checks if check.verdict != PASS]


QUESTIONS = (
    ("gate", "Has the model behind these numbers passed the gate?", ()),
    (
        "ranking",
        "May items, authors and clusters be ranked by their effects?",
        (
            *("overfit", "method_coverage", "random_subset_ranking", "match_sweep"),
            *("hidden_confounder_top", "direct_path_top"),
        ),
    ),
    (
        "size",
        "May effects be summed, as uploads that touches caused?",
        (
            *("outcome_leak", "negative_control", "proxy_reliability", "mediator_overlap"),
            *("placebo_proxies", "placebo_outcome", "placebo_touch", "random_subset_total"),
            *("hidden_confounder_total", "direct_path_total", "withholding_shortfall", "withholding_decisions"),
            "num_outcomes",
        ),
    ),
    (
        "overlap",
        "May exposed and unexposed users be compared, once weighted?",
        (
            "effective_sample_share",
            "propensity_calibration",
            "clipped_weight_share",
            "clip_sweep",
            "impossible_exposure_share",
        ),
    ),
    ("data", "Is everything there that should be?", ("rejected_rate", "withholding_rows_used", "base_rate")),
    ("other", "Does every other check pass?", ()),
)
"""Name, question, kinds of checks that answer it; what no question names is answered by the last."""


def worst(verdicts: Iterable[str]) -> str:
    """The gravest of them; pass where there is none."""
    return max(verdicts, key=_ORDER.index, default=PASS)


def checks(rows: pd.DataFrame) -> list[Check]:
    """The rows of diagnostics, None for what is undefined."""
    known = rows.astype(object).where(rows.notna(), None)
    return [Check(r.name, r.value, r.threshold, r.verdict, r.advice) for r in known.itertuples(index=False)]


def split(found: Sequence[Check], methods: Sequence[str], own: str) -> tuple[list[Check], list[Check]]:
    """(Those that count, those of methods that are only compared.)"""
    compared = [c for c in found if c.about in methods and c.about != own]
    return [c for c in found if c not in compared], compared


def verdict(contents: Contents) -> Verdict:
    """The worst of its areas: of its checks, and of what the ranking is worth."""
    own, compared = split(checks(contents.tonight.checks), contents.methods, contents.method)
    known = {kind for _, _, kinds in QUESTIONS for kind in kinds}
    areas = []
    for name, question, kinds in QUESTIONS:
        of_area = [c for c in own if (c.kind not in known if name == "other" else c.kind in kinds)]
        if name == "other" and not of_area:
            continue
        found, reasons = _further(name, contents, of_area)
        answer = worst([found, *(c.verdict for c in of_area)])
        reasons += _told(of_area) or ([] if reasons else [f"All {len(of_area)} checks of it pass."])
        areas.append(Area(name, question, answer, tuple(reasons), tuple(of_area)))
    return Verdict(worst(a.verdict for a in areas), tuple(areas), tuple(compared))


def _told(of_area: Sequence[Check]) -> list[str]:
    """What the checks that do not pass have to say, each sentence once, with their names and values."""
    of_sentence: dict[str, list[str]] = {}
    for c in of_area:
        if c.verdict != PASS:
            of_sentence.setdefault(first_sentence(c.advice), []).append(f"`{c.name}` {short(c.value)}")
    return [f"{sentence} ({', '.join(of)})" for sentence, of in of_sentence.items()]


def _further(name: str, contents: Contents, of_area: Sequence[Check]) -> tuple[str, list[str]]:
    """What an area knows beside its checks: a verdict and the reasons for it."""
    if name == "gate":
        return _gate(contents)
    if name == "ranking":
        return _ranking(contents)
    if name == "size":
        return _size(of_area)
    if name == "data":
        return _data(contents)
    return PASS, []


def _gate(contents: Contents) -> tuple[str, list[str]]:
    """A champion has passed on a night of its own; a refused model that speaks, for want of one, has not."""
    gate = contents.gate
    if not gate.reasons:
        beside = (
            f"beside the champion of {gate.champion}" if gate.champion else f"without a champion: {gate.no_champion}"
        )
        return PASS, [f"It was trained last night and passed, {beside}."]
    if gate.model_ds != contents.tonight.ds:
        said = f"The model trained last night was refused, and the champion of {gate.model_ds} speaks in its place."
        return WARN, [said, *gate.reasons]
    said = f"It was trained last night and refused, and no champion can speak in its place: {gate.no_champion}."
    return FAIL, [said, *gate.reasons]


EVIDENCE = {
    "exact": "Against the exact effects of the simulator",
    "randomised": "In the withholding experiment",
    "observational": "In the logs, which is no causal evidence",
    "observational_doubly_robust": "In the logs, which is no causal evidence",
}


def _ranking(contents: Contents) -> tuple[str, list[str]]:
    """By the interval of qini: the ranking against a random one, in the best protocol that there is.

    An observational one can neither prove a ranking nor condemn it.
    """
    auuc = contents.tonight.auuc
    rows = auuc[(auuc.method == contents.method) & (auuc.propensity_bucket == ALL_BUCKETS)]
    rows = rows[rows.protocol == contents.protocol]
    if rows.empty or pd.isna(rows.qini.iloc[0]):
        why = rows.undefined_reason.iloc[0] if len(rows) else "the night has no such figure"
        return FAIL, [f"What the ranking is worth could not be measured: {why}."]
    row = rows.iloc[0]
    qini, lower, upper = (None if pd.isna(v) else 1000 * float(v) for v in row[["qini", "qini_lower", "qini_upper"]])
    places = decimals([qini, lower, upper])
    figure = f"qini {number(qini, places)} per 1,000 touches, interval {interval(lower, upper, places) or 'unknown'}"
    where, causal = EVIDENCE[contents.protocol], contents.protocol not in OBSERVATIONAL_NAMES
    if lower is None or upper is None:
        return WARN, [f"{where}, nobody can say how sure the ranking is ({figure})."]
    if lower > 0:
        return PASS if causal else WARN, [f"{where}, the ranking beats a random one ({figure})."]
    if upper < 0:
        return FAIL if causal else WARN, [f"{where}, the ranking is worse than a random one ({figure})."]
    return WARN, [f"{where}, the ranking cannot be told from a random one ({figure})."]


NO_EXPERIMENT = (
    "No withholding experiment: what touches do beside the mediator (a direct path) is not in these numbers, and no "
    "log can tell it."
)


def _size(of_area: Sequence[Check]) -> tuple[str, list[str]]:
    """A size that nobody can know is none, whatever the check of the leak is worth elsewhere."""
    unknown = any(c.verdict != PASS and c.advice.startswith(NOT_IDENTIFIED) for c in of_area)
    if any(c.kind.startswith("withholding_") for c in of_area):
        return FAIL if unknown else PASS, []
    return FAIL if unknown else WARN, [NO_EXPERIMENT]


def _data(contents: Contents) -> tuple[str, list[str]]:
    accounting = contents.tonight.accounting
    rows = sum(counts["rows_in"] for counts in accounting.values())
    if not rows:
        return WARN, ["Nobody noted where the input rows went."]
    lost = sum(counts["rejected"] for counts in accounting.values())
    said = f"All {rows:,} input rows of {len(accounting)} tables are accounted for; {lost:,} were refused."
    late = sum(contents.late.values())
    came = [f"{late:,} came late, after the night had first been read; they are in."] if late else []
    return PASS, [said, *came, *contents.warnings]
