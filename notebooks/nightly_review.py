# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A night, looked into
#
# The figures of a night's `report.html`, to turn over by hand. It reads the night's tables and its MLflow run, and
# writes to neither. It opens the newest night of `conf/local.yaml` (`make run`); for another one,
#
# `ALMMTA_CONF=conf/prod.yaml ALMMTA_DS=2026-01-31 jupyter lab`

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import HTML, Image, Markdown, display

from almmta_spark import notebook, tables, tracking
from almmta_spark.evaluation import figures
from almmta_spark.report import charts, frames, page, plots, verdict
from jobs import report

pd.set_option("display.max_colwidth", None)
night = notebook.night()
found = report.contents(night)
Markdown(f"**Night of {night.ds}**, {found.env}, method `{found.method}`, intervals of {found.level:.0%}")

# %% [markdown]
# ## Can it be trusted?

# %%
Markdown(page.summary_note(verdict.verdict(found)))

# %% [markdown]
# What does not pass comes first; the limit says on which side of it a value should lie.

# %%
frames.checks(found)

# %% [markdown]
# ## What changed?
#
# Every figure that a night is watched by. Over several nights, a point outside all earlier ones is worth a question.

# %%
frames.changes(found)

# %%
plots.over_nights(found) if len(found.nights) > 1 else Markdown("No earlier night is published here.")

# %% [markdown]
# ## What is the ranking worth?
#
# AUUC: uploads gained when the clusters with the largest effects come first, averaged over how many are taken. The
# protocol says how the gain is known: `exact` (simulator), `randomised` (withheld touches); the observational ones
# are not causal.

# %%
plots.areas(found, found.protocol)

# %% [markdown]
# The same figures as MLflow has them, for a dashboard or an alarm:

# %%
run = tracking.night_run(night.conf, night.ds)
display(Markdown(f"Run `{run.info.run_id}`, verdict `{run.data.tags['verdict']}`"))
frames.logged(run.data.metrics, "auuc", run.data.tags["auuc_protocol"])

# %% [markdown]
# ## What causes uploads?
#
# Ordered by the end of the interval that is nearer to 0, so that few touches do not make a place.

# %%
for key in found.extremes:
    display(plots.causes(found, key))

# %% [markdown]
# ## What are further exposures worth?
#
# Were a share of the night's exposures given to what a ranking puts first: uploads beyond those that the present policy
# makes of as many, by the night's own model.

# %%
drawn = found.efficiency[found.efficiency.ranking.isin([found.method, "last_touch", "popularity"])]
drawn = drawn.sort_values("level", ascending=False)
figures.exposure_efficiency(drawn.to_dict("records"), found.method, "Extra uploads against the present policy")

# %%
for level in ("item", "author", "cluster"):
    rows = found.efficiency[(found.efficiency.level == level) & (found.efficiency.share == 0.1)]
    shown = rows.set_index("ranking")[["extra_uploads", "extra_uploads_lower", "extra_uploads_upper", "num_groups"]]
    display(Markdown(f"By {level}, 10 % of the exposures, extra uploads:"), shown.round(1))

# %% [markdown]
# ## Could users be compared at all?
#
# Where the two lines of a bucket lie apart, users who saw a cluster and users who did not have little in common. It
# matters for the observational protocols alone.

# %%
Image(data=found.overlap_picture)

# %% [markdown]
# ## Is everything there?
#
# Rows of the input: in = used + rejected + deduplicated + outside the window + capped + of users without a journey.

# %%
display(frames.accounts(found))
refused = [f"- {table}: {reasons}" for table, reasons in found.rejection_reasons.items()]
Markdown("\n".join(refused) or "No row was refused.")

# %% [markdown]
# ## A few journeys
#
# Each touch is as high as its effect, in percentage points of the chance of an upload; hours before the night.

# %%
for rule, journey in found.journeys:
    display(Markdown(f"{rule}. {'An upload followed' if journey.uploaded else 'No upload followed'}."))
    display(HTML(charts.timeline(journey, found.lookback_hours, rule)))

# %% [markdown]
# ## Further
#
# Any table is a Spark frame, with its columns explained in `almmta_spark/tables.py`.

# %%
own = night.read(tables.ATTRIBUTION_BY_CLUSTER).where(f"method = '{found.method}'").orderBy("cluster").toPandas()
own[["cluster", "exposures", "users", "removal_effect_sum"]].rename(
    columns={"exposures": "touches", "removal_effect_sum": "uploads caused"}
).head()
