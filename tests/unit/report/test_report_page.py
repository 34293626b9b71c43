"""What the page says, and that anybody can read it: parsed, not matched as text."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from almmta_spark import report, tables
from almmta_spark.evaluation.diagnostics import NOT_IDENTIFIED
from almmta_spark.report import page
from tests.unit.report.nights import CHECKS, auuc, check, cluster, contents, efficiency, frame, night

CSS = Path(report.__file__).with_name("page.css").read_text()
VOID = {"meta", "img", "br", "circle", "line", "polygon", "polyline", "link", "input", "hr"}


class Page(HTMLParser):
    """Sections by id, each with its text; every tag with its attributes; an error where tags are not nested."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text, self.section = [], [], {}, ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "section":
            self.section = found["id"]
        if tag == "header":
            self.section = "verdict"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.text[self.section] = self.text.get(self.section, "") + data + " "

    def says(self, section):
        return " ".join(self.text[section].split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def read(*nights, **changes):
    return Page(page.html(contents(*nights, **changes)))


def test_the_verdict_stands_first_with_an_answer_to_each_question():
    found = read(night(checks=[*CHECKS, check("num_outcomes", "warn", advice="Too few journeys: raise it.")]))
    said = found.says("verdict")
    assert next(iter(found.text)) in ("", "verdict") and "Last night can be used with care." in said
    assert "1 of 6 checks does not pass" in said and "Too few journeys: raise it." in said
    assert said.index("Last night can be used") < said.index("May items, authors") < said.index("Touches attributed")
    assert "3,000" in said and "14.0" in said and "1 % of the uploads" in said


def test_a_sum_that_nobody_may_rely_on_says_so_where_it_stands():
    advice = f"{NOT_IDENTIFIED}: nobody can tell."
    said = read(night(checks=[*CHECKS, check("outcome_leak/latent", "warn", advice=advice)])).says("verdict")
    assert "Last night can be used in part." in said
    assert "Uploads caused by touches 14.0 not to be relied on, see above" in said


def test_a_first_night_says_that_there_is_nothing_to_compare_with():
    assert "No earlier night is published here" in read().says("changes")


def test_changes_since_the_night_before_are_said():
    then = night("2026-01-14", clusters=[cluster(3, 0.020)], checks=[check("base_rate")])
    said = read(then, night(checks=[*CHECKS, check("base_rate", "warn")])).says("changes")
    assert "Against the night of 2026-01-14, and 1 earlier night since 2026-01-14." in said
    assert "base_rate : ✓ pass then, ! warn now" in said
    assert "moved by 50 % of their size; 1 cluster has an interval" in said


def test_every_method_and_bucket_has_its_area_with_an_interval_or_the_reason_why_not():
    missing = {"qini": (None,) * 3, "area": (None,) * 3, "undefined_reason": "0 measured clusters"}
    areas = [auuc(), auuc("backdoor", area=(-0.0021, -0.003, -0.001)), auuc(bucket=0, **missing)]
    said = read(night(areas=[*areas, auuc(protocol="observational", bucket=3)])).says("ranking")
    assert "6.00 4.00 to 8.00" in said and "−2.10 −3.00 to −1.00" in said
    assert "Not measured: bucket 0 (0 measured clusters)." in said
    assert said.index("Protocol randomised") < said.index("Protocol observational") and "Not causal" in said
    assert "Protocol exact" not in said and "bucket 3" in said


def test_the_largest_and_the_smallest_causes_stand_with_their_intervals():
    said = read().says("causes")
    assert "3 1,000 10.0 10.0 9.0 to 11.0" in said  # cluster, touches, uploads caused, per 1,000, interval
    assert said.index("Cause most") < said.index("Cause least") < said.index("8 1,000 0.0 0.0 −1.0 to 1.0")


def test_what_further_exposures_are_worth_is_said_drawn_and_tabled():
    found = read()
    said = found.says("worth")
    assert (
        "A further 10 % of the night's exposures (500), given to the items with the largest effects, would cause 31.6 "
        "(30.6 to 32.6) uploads more than under the present policy, 3.16 (2.16 to 4.16) more than by last_touch, 6.32 "
        "(5.32 to 7.32) more than by popularity."
    ) in said
    assert "latent 14.1 13.1 to 15.1 31.6 30.6 to 32.6 54.8 53.8 to 55.8 – 31.6" in said
    assert "popularity 11.3 10.3 to 12.3 25.3 24.3 to 26.3 43.8 42.8 to 44.8 6.32 5.32 to 7.32 25.3" in said
    assert "present_policy" not in said and "interval of 95 %" in said
    (drawn,) = [svg["aria-label"] for svg in found.all("svg") if "Extra uploads" in svg.get("aria-label", "")]
    assert drawn.endswith("at 10%: latent 32, last_touch 28, popularity 25")


def test_a_night_without_an_ensemble_or_a_known_truth_claims_neither_intervals_nor_exactness():
    rows = efficiency(exact=False, intervals=False)
    said = read(efficiency=frame(tables.EXPOSURE_EFFICIENCY, rows)).says("worth")
    assert "uploads more than under the present policy, 3.16 more than by last_touch" in said
    assert "has no interval" in said and "exact" not in said and " to " not in said.partition("ranking by")[2]


def test_a_night_without_the_table_of_exposures_has_no_such_section():
    found = read(efficiency=frame(tables.EXPOSURE_EFFICIENCY, []))
    assert "worth" not in found.text and "#worth" not in {a["href"] for a in found.all("a")}


def test_advice_stands_beside_what_does_not_pass_and_only_there():
    said = read(night(checks=[*CHECKS, check("base_rate", "fail", value=None, threshold=0.001)])).says("checks")
    assert said.count("Mend it. Then look again.") == 1 and "base_rate ✕ fail – 0.0010" in said
    assert "Of methods that are only compared: not counted overfit/backdoor" in said


def test_every_row_of_the_input_is_accounted_for_and_refused_ones_have_their_reason():
    said = read().says("data")
    assert "rows in used rejected deduplicated outside window of all, late" in said
    assert "exposures 1,200 1,000 7 93 100 0 uploads" in said and "exposures: unknown item 7" in said


def test_rows_that_came_late_are_counted_and_said():
    found = read(late={"exposures": 1200, "uploads": 3})
    assert "exposures 1,200 1,000 7 93 100 1,200 uploads 1,200 1,000 7 93 100 3 users" in found.says("data")
    assert "users 1,200 1,000 7 93 100 –" in found.says("data")  # nobody noted
    assert "1,203 came late" in found.says("verdict") and "came late" not in read().says("verdict")


def test_overlap_and_journeys_are_told_in_words_beside_their_pictures():
    found = read()
    assert "0 50 % –" in found.says("overlap")
    said = found.says("journeys")
    assert "An upload followed. Chance of one: 5.0 %; sum of the touches' effects: +2.6 points." in said
    assert "1 5.0 h 3 +2.0 1.5 to 2.5" in said


def test_the_truth_is_shown_only_where_somebody_knows_it():
    assert "truth" not in read().text
    rows = [{"method": m, "metric": "relative_rmse", "value": v} for m, v in (("latent", 0.2), ("backdoor", 0.9))]
    said = read(truth=frame(tables.TRUTH_METRICS, rows)).says("truth")
    assert "latent 0.200 backdoor 0.900" in said


def test_what_comes_from_tables_is_text_and_never_markup():
    evil = "<script>alert(1)</script> & `<b>`"
    found = read(night(checks=[check("num_outcomes", "warn", advice=evil)]), method="latent", warnings=(evil,))
    shown = "<script>alert(1)</script> & <b>"
    assert not found.all("script") and not found.all("b")
    assert shown in found.says("checks") and shown in found.says("data") and shown in found.says("verdict")


# ---- for everybody, and from nowhere else ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    return read(night("2026-01-14"), night())


def test_nothing_is_fetched(whole):
    policy = next(m["content"] for m in whole.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    links = [attrs[name] for _, attrs in whole.tags for name in ("src", "href") if name in attrs]
    assert links and all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert not re.search(r"url\(|@import", CSS) and not whole.all("script") and not whole.all("link")


def test_every_picture_has_words_or_is_hidden_from_those_who_cannot_see_it(whole):
    assert all(image.get("alt") for image in whole.all("img"))
    drawn = whole.all("svg")
    assert drawn and all(
        svg.get("aria-hidden") == "true" or (svg["role"], bool(svg["aria-label"])) == ("img", True) for svg in drawn
    )
    assert all(th.get("scope") for th in whole.all("th"))
    assert ("html", {"lang": "en"}) in whole.tags


def test_links_lead_somewhere(whole):
    ids = [attrs["id"] for _, attrs in whole.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {a["href"].removeprefix("#") for a in whole.all("a")} <= set(ids)


def test_a_verdict_is_a_word_and_a_mark_beside_its_colour(whole):
    assert set(re.findall(r"([✓!✕])\s*(Yes|With care|No)\b", whole.says("verdict"))) == {("✓", "Yes")}
    assert set(re.findall(r"([✓!✕])\s*(pass|warn|fail)\b", whole.says("checks"))) == {("✓", "pass")}
    assert len(set(page.MARKS.values())) == 3


def _luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    """WCAG 2's ratio."""
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_stands_out_from_every_ground_it_is_on():
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", CSS))
    for text in (colours["ink"], colours["quiet"], colours["own"]):
        for ground in ("#ffffff", colours["wash"], "#eaf3f9"):
            assert contrast(text, ground) >= 4.5
    # lines and marks: no text, and never the only sign
    assert all(contrast(colours[name], "#ffffff") >= 2 for name in ("pass", "warn", "fail"))


def test_the_page_is_the_same_for_the_same_night():
    assert page.html(contents()) == page.html(contents())


def test_the_note_for_mlflow_says_the_verdict_and_where_the_page_is():
    found = page.verdict(contents())
    note = page.summary_note(found)
    assert note.startswith("**✓ Last night can be trusted.**") and "artifact `report.html`" in note
    assert note.count("**Yes.**") == 5 and page.counts(found) == {"pass": 5, "warn": 0, "fail": 0}


def test_contents_have_no_place_for_a_user():
    names = {
        f.name
        for kind in (report.contents.Contents, report.contents.Journey, report.contents.Touch)
        for f in dataclasses.fields(kind)
    }
    assert not names & {"user_id", "journey_id", "touch_id"}
