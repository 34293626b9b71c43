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
# # Real logs: KuaiRand-Pure
#
# Two weeks of a video platform's recommendations. Nobody knows the true effects here, and nothing was withheld at
# random: what follows is what the model says, and what speaks for and against it. First
#
# `make kuairand DATA=folder of a KuaiRand-Pure download`

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from almmta_spark import notebook, summary, tables
from almmta_spark.evaluation import figures
from almmta_spark.report import frames, page, plots, verdict
from jobs import report

pd.set_option("display.max_colwidth", None)
night = notebook.night("conf/kuairand.yaml", made_by="make kuairand DATA=folder of a KuaiRand-Pure download")
found = report.contents(night)
pooled = min(len(found.nights), night.conf.pool_nights)
Markdown(f"**Night of {night.ds}**. Nights published: {len(found.nights)}; fitted and evaluated together: {pooled}")

# %% [markdown]
# ## What was imported

# %%
imported = summary.imports(night.spark, night.conf).get("kuairand", {"files": {}})
pd.Series(imported["files"], name="rows", dtype="Int64").to_frame()

# %% [markdown]
# ## What became of it
#
# A comment or a forward stands for an upload, a video's first tag for its cluster. Acts that may tell of inspiration,
# rows:

# %%
display(pd.Series(night.notes_of("ingest")["signals"], name="rows").to_frame())
frames.accounts(found)

# %% [markdown]
# ## Can it be trusted?

# %%
Markdown(page.summary_note(verdict.verdict(found)))

# %%
frames.checks(found)

# %% [markdown]
# ## Over the nights

# %%
frames.changes(found)

# %%
plots.over_nights(found) if len(found.nights) > 1 else Markdown("No earlier night is published here.")

# %% [markdown]
# ## Which tags cause most?

# %%
plots.causes(found, "cluster")

# %% [markdown]
# ## What the logs say of the rankings
#
# Exposed against unexposed journeys, weighted. This is no causal evidence: what drives both what is shown and the
# outcome, and is not among the covariates, stays in it.

# %%
for protocol in [p for p in tables.PROTOCOLS if p in set(found.tonight.auuc.protocol)]:
    display(plots.areas(found, protocol))

# %% [markdown]
# ## What further exposures would be worth
#
# By the model's own effects, if they are right:

# %%
drawn = found.efficiency[found.efficiency.ranking.isin([found.method, "last_touch", "popularity"])]
figures.exposure_efficiency(drawn.to_dict("records"), found.method, "Extra uploads against the present policy")
