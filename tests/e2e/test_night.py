"""A whole night on simulated logs, every part real: Spark, Petastorm, two torch.distributed ranks, MLflow."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from almmta_spark import config, manifest, night_log, runner, spark_tables, tables
from almmta_spark.night_log import Claim
from almmta_spark.report import numbers
from jobs import build_pairs, nightly
from tests import browser
from tests.e2e.conftest import DS
from tests.golden import walk

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
FILES = sorted(p.name for p in walk.FOLDER.glob("*.txt"))


@pytest.fixture(scope="module")
def attribution(spark, night):
    return spark_tables.read(spark, night, tables.ATTRIBUTION, DS).toPandas()


def test_every_touch_of_every_journey_is_attributed_by_every_method(spark, night, attribution):
    journeys = spark_tables.read(spark, night, tables.JOURNEYS, DS).selectExpr("size(touches) as n").toPandas()
    methods = {"latent", "backdoor", "last_touch", "linear", "time_decay"}
    assert set(attribution.method) == methods
    assert (attribution.method.value_counts() == journeys.n.sum()).all()
    assert not attribution.duplicated(["journey_id", "touch_id", "method"]).any()


def test_shares_add_up_to_one_wherever_there_is_credit(attribution):
    by_journey = attribution.groupby(["journey_id", "method"])[["credit", "attribution_share"]].sum()
    assert np.allclose(by_journey.attribution_share[by_journey.credit > 0], 1.0)
    assert (by_journey.attribution_share[by_journey.credit == 0] == 0).all()
    assert np.allclose(attribution.credit, attribution.removal_effect.clip(lower=0))


def test_a_models_effect_is_what_deletion_changes(attribution):
    models = attribution[attribution.method.isin(["latent", "backdoor"])]
    assert np.allclose(models.removal_effect, models.p_outcome - models.p_outcome_deleted, atol=1e-6)
    assert attribution[attribution.method == "linear"].p_outcome.isna().all()


@pytest.fixture(scope="module")
def report(night):
    (only,) = json.loads(Path(night.report_file).read_text())["nights"]
    return only


def test_the_accounting_adds_up_and_planted_duplicates_are_found(report):
    counts = report["accounting"]["exposures"]
    kept = {k: v for k, v in counts.items() if k != "rows_in"}
    assert counts["rows_in"] == sum(kept.values()) and counts["deduplicated"] > 0


def test_the_report_has_truth_metrics_auuc_and_the_run(spark, night, report):
    metrics = {(r["method"], r["metric"]): r["value"] for r in report["truth_metrics"]}
    assert np.isfinite(metrics["latent", "relative_rmse"])
    assert 0 < metrics["latent", "upload_auc_randomised"] < 1 and 0 < metrics["latent", "upload_auc_logged"] < 1
    assert set(tables.PROTOCOLS) == {r["protocol"] for r in report["auuc_by_bucket"]}
    assert [s["stage"] for s in report["stages"] if s["stage"] != "simulate"] == list(nightly.STAGES)
    journeys = spark_tables.read(spark, night, tables.JOURNEYS, DS).select("outcome").toPandas()
    assert (report["journeys"], report["outcomes"]) == (len(journeys), journeys.outcome.sum())
    assert report["mlflow"]["run_id"]


def test_the_report_says_what_each_stage_cost_spark(report):
    cost = {s["stage"]: s["spark"] for s in report["stages"]}
    assert all(cost[stage]["tasks"] > 0 for stage in nightly.STAGES if stage != "train")
    assert not any(c["forgotten_stages"] for c in cost.values())
    assert cost["ingest"]["shuffle_write_bytes"] > 10_000  # exposures and signals, by user
    assert all(c["skew"] is None or c["skew"] >= 1 for c in cost.values())


@pytest.fixture(scope="module")
def client(report):
    mlflow.set_tracking_uri(report["mlflow"]["uri"])
    return mlflow.MlflowClient(report["mlflow"]["uri"]), report["mlflow"]["run_id"]


def test_mlflow_holds_the_night_and_a_child_run_a_stage(client, night):
    store, run_id = client
    run = store.get_run(run_id)
    children = store.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert {c.info.run_name for c in children} == {"simulate", *nightly.STAGES} - {"publish"}
    (ingest,) = [c for c in children if c.info.run_name == "ingest"]
    assert ingest.data.metrics["spark/tasks"] > 0 and "spark/shuffle_read_bytes" in ingest.data.metrics
    assert run.data.tags["data_date"] == DS and run.data.tags["config_sha"] == config.digest(night)
    assert "auuc/bucket_00_lower" in run.data.metrics and len(run.data.metrics) < 100
    assert {d.dataset.name for d in run.inputs.dataset_inputs} == {"attribution"}
    figures = {a.path for a in store.list_artifacts(run_id, "figures")}
    assert {"figures/overlap.png", "figures/uplift_exact.png", "figures/training_curves.png"} <= figures


def test_no_user_id_leaves_the_warehouse(client, attribution, tmp_path):
    """Hashed ids have many digits, so finding none of them in any artifact is no accident."""
    _, run_id = client
    mlflow.artifacts.download_artifacts(run_id=run_id, dst_path=str(tmp_path))
    text = "".join(p.read_text() for p in tmp_path.rglob("*") if p.suffix in (".csv", ".json", ".yaml"))
    ids = [str(i) for i in attribution.journey_id.unique()[:200]]
    assert text and not any(i in text for i in ids)
    assert "user_id" not in "".join(p.read_text() for p in tmp_path.rglob("*.csv"))


# ---- the review: what people read ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def review(client, tmp_path_factory):
    """The page as MLflow hands it out."""
    _, run_id = client
    folder = tmp_path_factory.mktemp("review")
    return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="report.html", dst_path=str(folder)))


def test_the_review_says_what_the_tables_say(spark, night, review, report):
    text = " ".join(re.sub(r"<[^>]+>", " ", review.read_text().partition("</style>")[2]).split())
    warned = [d["name"] for d in report["diagnostics"] if d["verdict"] != "pass" and "backdoor" not in d["name"]]
    own = [d["name"] for d in report["diagnostics"] if "backdoor" not in d["name"]]
    assert f"{len(warned)} of {len(own)} checks do not pass" in text
    assert all(name in text for name in own)
    clusters = spark_tables.read(spark, night, tables.ATTRIBUTION_BY_CLUSTER, DS).where("method = 'latent'").toPandas()
    best = clusters.sort_values("removal_effect_mean_lower").iloc[-1]
    ends = (best.removal_effect_mean, best.removal_effect_mean_lower, best.removal_effect_mean_upper)
    figures = [f"{1000 * v:.1f}" for v in ends]
    assert (
        f"{best.cluster} {best.exposures:,} {best.removal_effect_sum:.2f} {figures[0]} {figures[1]} to {figures[2]}"
        in text
    )
    counts = report["accounting"]["exposures"]
    assert f"exposures {counts['rows_in']:,} {counts['used']:,} 0 {counts['deduplicated']:,} 0 0 0 0 items" in text
    worth = spark_tables.read(spark, night, tables.EXPOSURE_EFFICIENCY, DS).where("level = 'item' and share = 0.1")
    of = {r.ranking: r for r in worth.collect()}
    value, *ends = (of["latent"][f"extra_uploads{end}"] for end in ("", "_lower", "_upper"))
    places = numbers.decimals([value])
    gain = f"{numbers.number(value, places)} ({numbers.interval(*ends, places)})"
    assert f"would cause {gain}" in text and "more than by last_touch" in text and "more than by popularity" in text
    assert "An upload followed" in text and "No upload followed" in text and "Known truth" in text


def test_the_run_says_the_verdict(client):
    store, run_id = client
    run = store.get_run(run_id)
    said = run.data.tags["mlflow.note.content"]
    assert run.data.tags["verdict"] == "fail" and run.data.tags["auuc_protocol"] == "exact"
    assert said.startswith("**✕ Last night must not be used.**")  # refused after two epochs, and nobody else is there
    assert run.data.tags["gate"] == "refused" and "placebo" in "".join(
        reason for tag, reason in run.data.tags.items() if tag.startswith("gate_reason_")
    )
    counted = [run.data.metrics[f"checks/{verdict}"] for verdict in ("pass", "warn", "fail")]
    assert counted[1] + counted[2] > 0 and sum(counted) > 20


def test_the_review_names_nobody(spark, night, review, attribution):
    """Ids that are hashes have many digits; those of the simulator's users are short, so their words are looked for."""
    text = review.read_text()
    numbers = set(re.findall(r"\d{6,}", re.sub(r'"data:[^"]*"', "", text)))
    ids = {str(abs(i)) for name in ("journey_id", "touch_id") for i in attribution[name]}
    assert not numbers & ids and not any(word in text for word in ("user_id", "journey_id", "touch_id"))


@browser.needed
@pytest.mark.parametrize("width", [1280, 1920])
def test_the_review_is_legible_in_a_browser(review, width, tmp_path):
    found = browser.measured(review, width, tmp_path)
    assert len(found["texts"]) > 300 and found["wide"] == []
    assert min(t["size"] for t in found["texts"]) >= 11 and min(t["contrast"] for t in found["texts"]) >= 4.5
    with Image.open(browser.screenshot(review, width, 1000, tmp_path)) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape == (1000, width) and ((pixels < 160).reshape(10, -1).mean(1) > 0.002).all()


def test_the_candidate_model_says_what_the_table_says(client, spark, night, attribution):
    """The registered model, loaded by its alias, on one journey's raw values: the fits that saw its user are silent."""
    model = mlflow.pyfunc.load_model("models:/almmta_test@candidate")
    propensities = spark_tables.read(spark, night, tables.PROPENSITIES, DS)
    trained_on = propensities.where("is_validation = 0").select("journey_id")
    journeys = spark_tables.read(spark, night, tables.JOURNEYS, DS).join(trained_on, "journey_id")
    journey = journeys.where("size(touches) >= 3").first()
    items = spark_tables.read(spark, night, tables.ITEM_CLUSTERS, DS).collect()
    raw = {
        "user_id": [journey.user_id],
        "covariates": [list(map(float, journey.covariates))],
        "cluster": [[t.cluster for t in journey.touches]],
        "age_hours": [[float(t.age_hours) for t in journey.touches]],
    }
    contents = {r.item_id: list(map(float, r.embedding)) for r in items}
    known = {
        "item_id": [[t.item_id for t in journey.touches]],
        "author_id": [[t.author_id for t in journey.touches]],
        "embedding": [[contents[t.item_id] for t in journey.touches]],
    }
    served = model.predict(pd.DataFrame(raw | known))
    rows = attribution[(attribution.journey_id == journey.journey_id) & (attribution.method == "latent")]
    for name in ("removal_effect", "removal_effect_lower", "removal_effect_upper"):
        expected = rows.set_index("touch_id")[name][[t.touch_id for t in journey.touches]]
        assert np.allclose(served[name].iloc[0], expected, atol=1e-5)
    by_cluster = model.predict(pd.DataFrame(raw))["removal_effect"].iloc[0]
    effects = served["removal_effect"].iloc[0]
    assert np.allclose(by_cluster, effects, rtol=0.5) and not np.allclose(by_cluster, effects, atol=1e-6)


# ---- MLflow's own pages of this night --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(report, tmp_path_factory):
    """MLflow's server on loopback, on the night's store: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "log").open("w") as log:
        store = ["--backend-store-uri", report["mlflow"]["uri"]]
        process = subprocess.Popen([*command, *store], stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/health", process, folder / "log")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def wait_for(url, process, log):
    for _ in range(240):
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-2000:])


@pytest.fixture(scope="module", params=[1280, 1920])
def tab(request, tmp_path_factory):
    with browser.tab(request.param, 1400, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(server, client):
    """(Address of the run's page, the run.)"""
    store, run_id = client
    run = store.get_run(run_id)
    return f"{server}/#/experiments/{run.info.experiment_id}/runs/{run_id}", run


@browser.needed
def test_the_runs_page_says_the_verdict_first_and_the_figures_in_a_unit_that_can_be_read(pages, tab, tmp_path):
    address, run = pages
    said = tab.open(address, f"night {DS}", "auuc/all_lower", "almmta_test")
    note = [re.sub(r"[*`]", "", line).strip(" -") for line in run.data.tags["mlflow.note.content"].splitlines()]
    assert note[0] in said and said.index(note[0]) < said.index("auuc/all")
    assert all(line.partition("?")[0] in said for line in note if "?" in line)
    assert "Finished" in said and f"verdict : {run.data.tags['verdict']}" in said.replace("verdict:", "verdict :")
    assert f"auuc/all {run.data.metrics['auuc/all']:.6f}"[:16] in said and 1 < run.data.metrics["auuc/all"] < 100
    assert all(stage in said for stage in nightly.STAGES if stage != "publish")
    assert min(browser.inked(tab.screenshot(tmp_path / "run.png"))) > 0.002


@browser.needed
def test_the_metrics_page_draws_every_bucket_with_its_ends(pages, tab, tmp_path):
    address, run = pages
    said = tab.open(f"{address}/model-metrics", "bucket_00_upper")
    assert all(f"{name}{end}" in said for name in ("all", "bucket_00") for end in ("", "_lower", "_upper"))
    told = "[...document.querySelectorAll('svg text')].map(e => e.textContent).join(' ')"
    tab.wait(f"{told}.includes('{run.data.metrics['auuc/all']:.2f}')")  # two decimals are all that MLflow draws
    assert min(browser.inked(tab.screenshot(tmp_path / "metrics.png"))[:8]) > 0.002


@browser.needed
def test_the_review_is_read_where_mlflow_shows_it(pages, tab, review, tmp_path):
    address, _ = pages
    said = tab.open(f"{address}/artifacts/report.html", "config.yaml", "tables", "NIGHTLY REVIEW", "How to read this")
    headline = re.search(r"<strong>(.*?)</strong>", review.read_text())[1]
    assert headline in said and "What further exposures are worth" in said
    (sizes,) = tab.in_frames("[document.documentElement.scrollWidth, innerWidth, devicePixelRatio]")
    assert sizes[0] <= sizes[1] + 1  # nothing is cut off in the narrow frame: wide tables scroll by themselves
    texts = "[...document.querySelectorAll('p, td, th, li, dd, dt, code')]"
    (smallest,) = tab.in_frames(f"Math.min(...{texts}.map(e => parseFloat(getComputedStyle(e).fontSize)))")
    assert smallest >= 11
    assert min(browser.inked(tab.screenshot(tmp_path / "review.png"))) > 0.002


@browser.needed
def test_the_models_page_says_which_night_the_candidate_is_of(server, pages, tab):
    _, run = pages
    said = tab.open(f"{server}/#/models/almmta_test", "Version 1", "candidate")
    assert f"data_date : {DS}" in said.replace("data_date:", "data_date :") and run.data.tags["config_sha"][:20] in said


# ---- the notebooks, on this night -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernels():
    """The notebooks' packages are asked for here alone: all else of this file runs without them."""
    from tests import kernels

    return kernels


def shown(cells):
    """(What a notebook said, its pictures)."""
    outputs = [output for cell in cells.cells for output in cell.get("outputs", ())]
    assert not [o for o in outputs if o.get("name") == "stderr"]
    data = [output.get("data", {}) for output in outputs]
    texts = [d[kind] for d in data for kind in ("text/markdown", "text/html") if kind in d]
    pictures = [d for d in data if "image/png" in d or "<svg" in d.get("text/html", "")]
    return html.unescape(re.sub(r"<[^>]+>", " ", "\n".join(texts))), pictures


def number_in(value, text, places=6):
    return f"{value:.{places}f}" in text


def test_the_nightly_review_shows_what_tables_and_mlflow_say(kernels, spark, night, client, attribution, tmp_path):
    said, pictures = shown(kernels.executed("nightly_review", night, tmp_path))
    store, run_id = client
    assert store.get_run(run_id).data.tags["mlflow.note.content"].splitlines()[0] in said and run_id in said
    areas = spark_tables.read(spark, night, tables.AUUC_BY_BUCKET, DS).where("method = 'latent' and protocol = 'exact'")
    assert all(number_in(1000 * row.auuc, said) for row in areas.collect())
    checks = spark_tables.read(spark, night, tables.DIAGNOSTICS, DS).where("verdict != 'pass' and name like '%/latent'")
    assert all(row.name in said and row.advice[:40] in said for row in checks.collect())
    worth = spark_tables.read(spark, night, tables.EXPOSURE_EFFICIENCY, DS).where("level = 'item' and share = 0.1")
    assert all(number_in(row.extra_uploads, said, 1) for row in worth.where("ranking != 'present_policy'").collect())
    assert len(pictures) >= 8  # nights, areas, three of causes, exposures, overlap, journeys
    assert not {str(i) for name in ("journey_id", "touch_id") for i in attribution[name]} & set(said.split())


def test_the_method_is_shown_against_the_exact_truth(kernels, night, report, tmp_path):
    said, pictures = shown(kernels.executed("the_method", night, tmp_path))
    truth = {(r["method"], r["metric"]): r["value"] for r in report["truth_metrics"]}
    for method in ("latent", "backdoor"):
        for metric in ("within_journey_spearman", "magnitude_ratio", "relative_rmse"):
            assert number_in(truth[method, metric], said, 2)
    covered = truth["latent", "interval_coverage_cluster"]
    assert f"the true mean effect of {covered:.0%} of the clusters; they name 95%" in said
    assert len(pictures) == 8  # graph, plain case, training, journey, bins, clusters, two protocols


def test_the_notebook_of_real_logs_reads_any_night(kernels, night, tmp_path):
    said, pictures = shown(kernels.executed("kuairand", night, tmp_path))
    assert "published: 1; fitted and evaluated together: 1" in said and "Last night must not be used" in said
    assert len(pictures) == 2 + len(tables.PROTOCOLS)  # causes, exposures


def test_the_notebook_of_real_logs_says_what_to_run_where_there_are_none(kernels, night, tmp_path):
    nowhere = replace(night, warehouse=str(tmp_path / "nothing"))
    with pytest.raises(kernels.Failed, match="make kuairand DATA=folder"):
        kernels.executed("kuairand", nowhere, tmp_path)


REAL_LOGS = config.load("conf/kuairand.yaml")
REAL_LOGS = replace(REAL_LOGS, warehouse=str(Path(REAL_LOGS.warehouse).resolve()))


@pytest.mark.skipif(
    not Path(REAL_LOGS.warehouse, "diagnostics").is_dir(),
    reason=f"no nights of real logs in {REAL_LOGS.warehouse}: make kuairand DATA=folder of a KuaiRand-Pure download",
)
@pytest.mark.long
def test_real_logs_are_shown_with_no_claim_that_they_cannot_bear(kernels, tmp_path):
    said, pictures = shown(kernels.executed("kuairand", REAL_LOGS, tmp_path))
    assert "log rows" in said and "No withholding experiment" in said and "trusted" not in said
    assert len(pictures) >= 4


# ---- one user, from raw rows to attribution rows, as the golden files and the README show it ------------------------


@pytest.fixture(scope="module")
def steps(spark, night):
    return walk.steps(spark, night, DS)


def test_the_walk_has_a_file_for_every_step(steps):
    assert sorted(steps) == FILES


@pytest.mark.parametrize("name", [f for f in FILES if f != walk.MODELLED])
def test_a_step_is_what_its_file_says(steps, name):
    assert steps[name] == (walk.FOLDER / name).read_text()


def test_the_attribution_is_what_its_file_says_up_to_rounding(steps):
    expected = (walk.FOLDER / walk.MODELLED).read_text()
    assert NUMBER.sub("#", steps[walk.MODELLED]).split() == NUMBER.sub("#", expected).split()
    found, wanted = (list(map(float, NUMBER.findall(t))) for t in (steps[walk.MODELLED], expected))
    assert found == pytest.approx(wanted, rel=0.02, abs=2e-4)


def test_the_readme_shows_the_walk():
    readme = Path("README.md").read_text()
    assert all((walk.FOLDER / name).read_text() in readme for name in FILES)


# ---- the same night again --------------------------------------------------------------------------------------------


@pytest.fixture
def copied(night, tmp_path):
    """The night in a warehouse of its own."""
    shutil.copytree(night.warehouse, tmp_path / "warehouse")
    return replace(night, warehouse=str(tmp_path / "warehouse"))


def run_again(spark, conf, stages):
    """The stages that did not skip, and why train and attribute would not."""
    with Claim(spark, conf, DS) as claim:
        nights = [runner.Night(spark, conf, DS, name, claim) for name in stages]
        ran = [n.stage for n in nights if runner.run_if_changed(n, nightly.STAGES[n.stage])]
        why = {s: manifest.verdict(manifest.read(spark, conf, DS, s), nights[0].place) for s in ("train", "attribute")}
        claim.publish()
    return ran, why


BUT_PUBLISH = [s for s in nightly.STAGES if s != "publish"]
STAGES_THAT_READ = {
    "ingest.broadcast_rows": {"ingest", "fit_propensity", "attribute", "evaluate"},
    "journeys.max_touchpoints": {"build_journeys", "build_examples"},
    "propensity.l2": {"fit_propensity"},
    "pairs.match_quantile": {"build_pairs"},
    "training.epochs": {"train"},
    "gate.journeys": {"gate"},
    "model.quadrature_nodes": {"train"},
    "attribution.half_life_hours": {"attribute"},
    "evaluation.min_group_rows": {"evaluate"},
}


def test_stages_remember_the_settings_that_they_read_and_no_others(spark, night):
    looked = {s: set(manifest.read(spark, night, DS, s)["looked"]) for s in BUT_PUBLISH}
    for key, stages in STAGES_THAT_READ.items():
        found = {stage for stage, looks in looked.items() if f"setting {key}" in looks}
        assert found - {"attribute"} == stages - {"attribute"} and found >= stages, key


def test_a_rerun_skips_every_stage_and_changes_nothing(spark, copied):
    before = night_log.versions(spark, copied, DS)
    assert run_again(spark, copied, nightly.STAGES) == ([], {"train": "", "attribute": ""})
    assert night_log.versions(spark, copied, DS) == before


def test_a_changed_setting_reruns_the_stage_that_read_it(spark, copied):
    other = replace(copied, evaluation=replace(copied.evaluation, min_group_rows=20))
    before = night_log.versions(spark, copied, DS)
    assert run_again(spark, other, BUT_PUBLISH)[0] == ["evaluate", "report"]
    after = night_log.versions(spark, copied, DS)
    assert {t for t in before if before[t] != after[t]} == {
        *(t.name for t in tables.ROLLUPS),
        *("exposure_efficiency", "grouped_uplift", "auuc_by_bucket", "truth_metrics", "diagnostics"),
    }


def test_a_late_duplicate_reruns_what_reads_events_and_no_training_since_journeys_stay_the_same(spark, copied):
    day = spark_tables.folder(copied, tables.EXPOSURES, "2026-01-14")
    spark.read.parquet(day).limit(1).write.mode("append").parquet(day)
    before = spark_tables.published(spark, copied, tables.JOURNEYS, DS)
    ran, why = run_again(spark, copied, BUT_PUBLISH[: BUT_PUBLISH.index("train")])
    assert ran == ["ingest", "build_journeys", "fit_propensity", "build_examples"]
    assert why == {"train": "", "attribute": "changed: accepted_uploads of 2026-01-15"}
    late = manifest.read(spark, copied, DS, "ingest")["notes"]["late"]
    assert late["exposures"] == 1 and not any(rows for name, rows in late.items() if name != "exposures")
    after = spark_tables.published(spark, copied, tables.JOURNEYS, DS)
    assert (before.checksum, before.rows) == (after.checksum, after.rows) and before.version != after.version


# ---- other ways to the same night ------------------------------------------------------------------------------------


def test_a_rerun_gives_the_same_tables_to_the_last_bit(spark, night):
    """Trained again from the beginning: a finished training is otherwise resumed after its last epoch."""
    before = {t.name: spark_tables.published(spark, night, t, DS).checksum for t in tables.OUTPUTS}
    shutil.rmtree(Path(night.warehouse) / "_models" / f"ds={DS}")
    for name in [s for s in nightly.STAGES if s != "publish"]:
        runner.run_stage(runner.Night(spark, night, DS, name), nightly.STAGES[name])
    after = {t.name: spark_tables.published(spark, night, t, DS).checksum for t in tables.OUTPUTS}
    assert before == after


KILLED_BEFORE_PUBLISHING = """
import os
from almmta_spark import night_log, runner
from jobs import build_pairs
night_log.Claim.publish = lambda claim: os._exit(9)
runner.main("build_pairs", build_pairs.run, None)
"""


def test_a_run_killed_between_writing_and_publishing_leaves_the_night_as_it_was(spark, copied):
    folder = Path(spark_tables.folder(copied, tables.MATCHED_PAIRS, DS))

    def versions():
        return {p.name.removeprefix("version=") for p in folder.iterdir() if p.is_dir()}

    seen, there = night_log.versions(spark, copied, DS), versions()
    pairs = spark_tables.read(spark, copied, tables.MATCHED_PAIRS, DS)
    settings = ["--set", f"warehouse={copied.warehouse}", "--set", "pairs.match_quantile=0.2"]
    command = [sys.executable, "-c", KILLED_BEFORE_PUBLISHING, "--conf", "conf/test.yaml", "--ds", DS, *settings]
    assert subprocess.run(command, capture_output=True).returncode == 9
    (left,) = versions() - there
    assert night_log.versions(spark, copied, DS) == seen
    assert pairs.count() == spark_tables.published(spark, copied, tables.MATCHED_PAIRS, DS).rows

    runner.run_stage(
        runner.Night(spark, copied, DS, "build_pairs"), build_pairs.run
    )  # takes over from the dead at once
    assert left not in versions() and seen["matched_pairs"] in versions()
    assert night_log.versions(spark, copied, DS)["matched_pairs"] in versions() - there


@pytest.mark.slow
def test_one_rank_attributes_as_two_do(spark, night, attribution, tmp_path):
    shutil.copytree(night.warehouse, tmp_path / "warehouse")
    alone = replace(night, warehouse=str(tmp_path / "warehouse"), training=replace(night.training, num_ranks=1))
    for name in ("train", "gate", "attribute"):
        runner.run_stage(runner.Night(spark, alone, DS, name), nightly.STAGES[name])
    of_one = spark_tables.read(spark, alone, tables.ATTRIBUTION, DS).toPandas()
    keys = ["method", "journey_id", "touch_id"]
    both = attribution.merge(of_one, on=keys, suffixes=("_two", "_one"), validate="one_to_one")
    assert len(both) == len(attribution) == len(of_one)
    for method in ("latent", "backdoor"):
        effects = both[both.method == method][["removal_effect_two", "removal_effect_one"]]
        correlation = effects.corr(method="spearman").iloc[0, 1]
        print(f"Spearman of {method} effects, one rank against two: {correlation:.4f}")
        assert correlation >= 0.97
