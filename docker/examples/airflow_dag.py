"""An Airflow DAG: every day at 03:00 UTC the night of the day before, by docker/submit-night.sh on Airflow's worker.

A retry does what the first try left undone, and nights run in order. Where the code, its environment, the master and
the warehouse are is said by the worker's own environment: ALMMTA_HOME, BIN, MASTER, WAREHOUSE and HOST.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

with DAG(
    "almmta_nightly",
    description=__doc__,
    # An interval, whose start is the night: Airflow 3 reads a plain cron line as the moment at which it runs.
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, 3, tzinfo=UTC),
    catchup=True,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10), "depends_on_past": True},
) as dag:
    BashOperator(
        task_id="night",
        bash_command="docker/submit-night.sh --conf conf/prod.yaml --ds {{ data_interval_start | ds }}",
        cwd=os.environ.get("ALMMTA_HOME", "/opt/almmta_spark"),
        append_env=True,
    )
