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
# # The method on one small world, step by step
#
# Which of the things that a person watched made them create something? In a simulated world the answer is known, so
# every step can be held against it. This reads the night that `make run` made (world `default`); the mathematics
# stand in `almmta_spark/causal/README.md`.

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from almmta_spark import notebook, tables
from almmta_spark.evaluation import exact, figures
from almmta_spark.report import frames, plots
from almmta_spark.study import explain
from almmta_spark.study import figures as studies
from jobs import report

pd.set_option("display.max_colwidth", None)
night = notebook.night()
found = report.contents(night)
world = night.conf.simulator
methods = [found.method, "backdoor"]
Markdown(f"World `{world.world}`, {world.num_users:,} users, night of {night.ds}; methods `{'`, `'.join(methods)}`")

# %% [markdown]
# ## 1 The graph
#
# W, the intent to create, is hidden. It moves what the recommender serves (T) and whether the user uploads (Y), so
# those who saw more and those who saw less differ before they saw anything. Touches act through M, the inspiration.

# %%
explain.graph()

# %% [markdown]
# ## 2 What is assumed
#
# | assumption | in words | what would show that it fails |
# |---|---|---|
# | full mediation | touches act through the inspiration alone (no T → Y) | a withholding experiment; no log can |
# | untouched mediator | the intent does not move the inspiration by itself (no W → M) | the negative control |
# | positivity | the inspiration still varies once touches are known | the mediator's overlap |
# | measurement | acts on the way to an upload tell of the inspiration; the upload causes none | the leak check |
#
# ## 3 The plain case
#
# One treatment, one mediator, seen without error: 20,000 rows a point, drawn and estimated here. Back door is wrong
# however many rows there are. The front door is right as long as the mediator has noise of its own; its interval
# opens as that goes.

# %%
explain.vanishing_noise(explain.studies())

# %% [markdown]
# ## 4 The world
#
# Clusters of content differ in strength, and about a third of them have none: they inspire nobody.

# %%
strength = night.read_day(tables.TRUTH_CLUSTERS, night.ds).orderBy("strength", ascending=False).toPandas()
Markdown(
    f"{len(strength)} clusters, {(strength.strength == 0).sum()} of them without any effect; the strongest are "
    f"{', '.join(str(c) for c in strength.cluster[:5])}."
)

# %% [markdown]
# A user's night becomes a journey: touches before midnight, acts that may tell of inspiration, covariates, an upload
# or none.

# %%
frames.accounts(found)

# %% [markdown]
# ## 5 The fit
#
# `latent` learns all at once, by the likelihood of what was seen: how touches make inspiration, how inspiration shows
# in acts, how both lead to uploads. Loss a journey (nats), by epoch; the held-out one should level off and not rise.

# %%
history = night.notes_of("train")["history"]
figures.training_curves({name: history[name] for name in methods if name in history}, "Training of the night's models")

# %% [markdown]
# ## 6 Effects, against the exact truth
#
# A touch's effect is what deleting it would take from the chance of an upload. Of one user's touches, per 1,000:

# %%
attribution = night.read(tables.ATTRIBUTION)
truth = night.read_day(tables.TRUTH_ATTRIBUTION, night.ds)
one = exact.one_journey(attribution, truth, methods, min_touches=5)
studies.journey(studies.Journey.of(one, methods), "One journey that ended in an upload")

# %% [markdown]
# Of all touches, in 20 bins of the estimate: on the dotted line, size and order are both right.

# %%
sample = exact.truth_sample(attribution, exact.sampled_truth(truth, night.conf.seed), methods)
bins = {method: exact.effect_bins(sample.estimate_N[method], sample.ett_N) for method in methods}
figures.estimated_vs_true(bins, "Estimated and true effects of touches")

# %% [markdown]
# ## 7 How sure
#
# Ten fits, each without a part of the users, say how far an estimate would move with other users. By cluster, with
# the truth behind it and what the back door says:

# %%
by_cluster = exact.cluster_effects(sample)
known = dict(zip(by_cluster["cluster"].tolist(), by_cluster["truth"].tolist(), strict=True))
rollup = night.read(tables.ATTRIBUTION_BY_CLUSTER).toPandas()
figures.intervals_by_cluster(rollup, known, methods, f"Clusters' mean effects, intervals of {found.level:.0%}")

# %%
measured = frames.truth(found)
covered = measured.interval_coverage_cluster[found.method]
Markdown(f"The intervals hold the true mean effect of {covered:.0%} of the clusters; they name {found.level:.0%}.")

# %% [markdown]
# ## 8 What the back door says
#
# The same numbers for every method of the night. Spearman: order of the touches within a journey (1 is perfect).
# Magnitude ratio: claimed effects over true ones (1 is the right size). Relative RMSE: 1 is what claiming no effect
# would get.

# %%
measured[["within_journey_spearman", "magnitude_ratio", "relative_rmse"]].dropna().round(2)

# %% [markdown]
# Does it matter? AUUC is what a ranking of clusters gains. First by the exact effects; then by comparing exposed with
# unexposed users in the logs, which is all that can be had without an experiment or a simulator, and which can praise
# the wrong method: what biases the back door biases its judge as well.

# %%
for protocol in ("exact", "observational"):
    display(plots.areas(found, protocol))

# %% [markdown]
# ## 9 What the diagnostics say
#
# They know no truth, so a night of real logs has them too. Each says what to do.

# %%
frames.checks(found)

# %% [markdown]
# ## Other worlds
#
# `make run WORLD=hard` (what is served to intenders does not inspire), `leak_y`, `leak_w`, `direct`, `random:3`, ...
# and
#
# `ALMMTA_CONF=runs/hard/conf.yaml jupyter lab`
#
# shows where each assumption fails, and which diagnostic says so.
