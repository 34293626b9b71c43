"""What a job says on stderr, read as whoever collects logs does: every line by itself."""

import json
import subprocess
import sys
from datetime import datetime

import pytest

from almmta_spark import redaction

JOB = """
import logging, sys
from almmta_spark import log_lines, runner
from almmta_spark.config import Config
from dataclasses import replace

log_lines.set_up(sys.argv[1])
conf = replace(Config(), warehouse=sys.argv[2])

def stage(night):
    night.note(rows=3)

def broken(night):
    raise OSError("no answer from https://me:pa55word@store/x?token=t0ken1")

with runner.Claim(None, conf, "2026-01-15") as claim:
    for _ in range(2):
        runner.run_if_changed(runner.Night(None, conf, "2026-01-15", "gate", claim), stage)
    runner.run_if_changed(runner.Night(None, conf, "2026-01-15", "train", claim), broken)
"""


def said(kind, folder):
    done = subprocess.run([sys.executable, "-c", JOB, kind, str(folder)], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    return done.stderr.splitlines()


def test_every_line_is_an_object_and_every_stage_has_its_events(tmp_path):
    lines = [json.loads(line) for line in said("json", tmp_path)]
    assert all(datetime.fromisoformat(line["time"]).utcoffset().total_seconds() == 0 for line in lines)
    events = [(line["event"], line["night"], line["stage"]) for line in lines if "event" in line]
    gate, train = ("2026-01-15", "gate"), ("2026-01-15", "train")
    started, done, skipped, train_started, failed = events
    assert (started, done, skipped) == (("stage_started", *gate), ("stage_done", *gate), ("stage_skipped", *gate))
    assert (train_started, failed) == (("stage_started", *train), ("stage_failed", *train))
    by_name = {line["event"]: line for line in lines if "event" in line}
    assert by_name["stage_done"]["seconds"] >= 0 and by_name["stage_done"]["rows"] == {}
    failed = by_name["stage_failed"]
    assert failed["level"] == "ERROR" and failed["error"].startswith("OSError: no answer from https://***@store/x")
    assert lines[-1]["level"] == "CRITICAL" and lines[-1]["traceback"].startswith("Traceback")


def test_people_read_one_line_a_message(tmp_path):
    lines = [line.partition(" ")[2] for line in said("text", tmp_path)]
    assert [line for line in lines if line.startswith("gate")] == [
        *("gate: it has not run to its end", "gate", "gate: unchanged, skipped")
    ]
    assert any(line.startswith("  done in 0.") for line in lines)
    assert any(line.startswith("  failed after 0.") and line.endswith("OSError") for line in lines)


@pytest.mark.parametrize("kind", ["text", "json"])
def test_a_secret_in_an_error_is_in_no_line_and_in_no_traceback(tmp_path, kind):
    text = "\n".join(said(kind, tmp_path))
    assert "no answer from" in text and "Traceback" in text
    assert "pa55word" not in text and "t0ken1" not in text


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("--set spark.hadoop.fs.s3a.secret.key=abc def", "--set spark.hadoop.fs.s3a.secret.key=*** def"),
        ("{'fs.s3a.access.key': 'AKIA', 'n': 1}", "{'fs.s3a.access.key': ***, 'n': 1}"),
        ('{"password": "a b", "n": 1}', '{"password": ***, "n": 1}'),
        ("jdbc://host/db?user=me&password=pw&ssl=1", "jdbc://host/db?user=me&password=***&ssl=1"),
        ("postgresql://me:p@ss@host:5432/db", "postgresql://***@host:5432/db"),
        (
            "MLFLOW_TRACKING_PASSWORD=pw and AWS_SECRET_ACCESS_KEY: k",
            "MLFLOW_TRACKING_PASSWORD=*** and AWS_SECRET_ACCESS_KEY: ***",
        ),
        ("table journeys: 3 rows, s3a://bucket/a@b", "table journeys: 3 rows, s3a://bucket/a@b"),
    ],
)
def test_secrets_are_told_by_their_names_and_places(message, shown):
    assert redaction.text(message) == shown


def test_settings_are_redacted_by_their_keys_and_in_their_texts():
    settings = {"spark": {"fs.s3a.secret.key": "abc"}, "urls": ["http://me:pw@host"], "seed": 1, "empty_token": ""}
    assert redaction.redacted(settings) == {
        "spark": {"fs.s3a.secret.key": "***"},
        "urls": ["http://***@host"],
        "seed": 1,
        "empty_token": "",
    }
