"""Every setting of a night: typed, frozen, validated; a key nobody declared is an error, never a silent default.

conf/*.yaml holds the departures from the defaults below and may name a base file (`extends: local.yaml`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

ROLES = ("outcome_proxy", "intent_proxy")
KINDS = ("binary", "count")
LOG_FORMATS = ("text", "json")
VARIANTS = (
    "latent",
    "paper",
    "paper_lambda_0",
    "paper_lambda_1",
    "paper_lambda_5",
    "backdoor",
    "backdoor_ipw",
    "balanced",
    "doubly_robust",
    "attention",
    "shapley_model",
)
"""Models there are, for training.variants."""
PLACEBOS = ("placebo_proxies", "placebo_outcome", "placebo_touch")
"""Models that must find nothing, for training.placebos (model/placebo.py)."""
MOST_TOUCHPOINTS = 1024
"""Touches of a user and part of a day that are kept for any journey (logs/days.py)."""
BASELINES = ("first_touch", "last_touch", "linear", "time_decay", "position_based", "markov", "shapley")
"""Methods of baselines/, in the order in which the README explains them."""
WORLDS = (
    *("default", "hard", "unconfounded", "leak_y", "leak_y_noanchor", "leak_w"),
    *("direct", "w_to_m", "misspecified", "signed", "content", "rich", "rich_hard", "collapsed"),
)


_YEAR_HOURS = 366 * 24
_TICK_HOURS = 1 / 3_600_000_000
"""The shortest time there is: a microsecond."""
_LARGEST = {int: 2**31 - 1, float: 1e12}
"""Numbers beyond these are slips, and none that is not finite is a setting."""


def _require(condition: bool, key: str, rule: str, value: object) -> None:
    if not condition:
        raise ValueError(f"{key} must be {rule}, got {value!r}: change it in the conf file or with --set {key}=VALUE")


@dataclass(frozen=True)
class SignalConfig:
    """What one signal name means."""

    roles: tuple[str, ...] = ("outcome_proxy",)
    """outcome_proxy (Y', counted in the lookback window), intent_proxy (Z, in the pre_hours before it), or both."""
    kind: str | None = None
    """binary or count; None: taken from the data (binary where no journey holds more than one) and said."""
    anchor: bool = False
    """Known not to be caused by the upload: the measurement model's kappa is held at 0 for it."""

    def __post_init__(self) -> None:
        _require(bool(self.roles) and set(self.roles) <= set(ROLES), "signals.*.roles", f"out of {ROLES}", self.roles)
        _require(self.kind is None or self.kind in KINDS, "signals.*.kind", f"one of {KINDS} or null", self.kind)


@dataclass(frozen=True)
class IngestConfig:
    """Which rows of the logs are refused, and how items and users are looked up."""

    max_rejected_rate: float = 0.05
    """Share of an input table's rows that may be refused before the night stops with nothing published."""
    max_embedding_norm: float = 1e6
    """An embedding longer than this is refused: it is a unit mix-up, not content."""
    user_buckets: int = 256
    """Files that a day's exposures and signals are kept in, by hash of the user: the tasks of what nights make of them.
    No fewer than spark.sql.shuffle.partitions, or Spark may shuffle them again; another number writes all days anew."""
    broadcast_rows: int = 2_000_000
    """Items or users up to this many are broadcast to look exposures up in; more are joined by a shuffle."""
    pseudonym_key: str = ""
    """Where the key is by which ids of users and authors are replaced as they are read (pseudonyms.py): env:NAME of an
    environment variable, or file:PATH; empty: they stay as they are."""

    def __post_init__(self) -> None:
        if self.pseudonym_key and not re.fullmatch(r"env:\w+|file:.+", self.pseudonym_key):
            raise ValueError("ingest.pseudonym_key must be env:NAME or file:PATH: where the key is, never the key")
        _require(0 <= self.max_rejected_rate <= 1, "ingest.max_rejected_rate", "in [0, 1]", self.max_rejected_rate)
        _require(self.max_embedding_norm > 0, "ingest.max_embedding_norm", "> 0", self.max_embedding_norm)
        _require(1 <= self.user_buckets <= 100_000, "ingest.user_buckets", "in [1, 100000]", self.user_buckets)
        _require(self.broadcast_rows >= 0, "ingest.broadcast_rows", ">= 0", self.broadcast_rows)


@dataclass(frozen=True)
class JourneysConfig:
    """The windows of a night and how much of a user it keeps."""

    lookback_hours: float = 24.0
    """Touchpoints are the exposures in [index_ts - lookback_hours, index_ts)."""
    pre_hours: float = 24.0
    """Intent proxies are counted in the pre_hours before the lookback window."""
    outcome_window_hours: float = 24.0
    """Outcome is an upload in [index_ts, index_ts + outcome_window_hours)."""
    max_touchpoints: int = 64
    """Newest touchpoints kept per journey; older ones are dropped and counted as capped."""

    def __post_init__(self) -> None:
        for name in ("lookback_hours", "pre_hours", "outcome_window_hours"):
            hours = getattr(self, name)
            _require(_TICK_HOURS <= hours <= _YEAR_HOURS, f"journeys.{name}", f"> 0 and <= {_YEAR_HOURS}", hours)
        n = self.max_touchpoints
        _require(1 <= n <= MOST_TOUCHPOINTS, "journeys.max_touchpoints", f"in [1, {MOST_TOUCHPOINTS}]", n)


@dataclass(frozen=True)
class PropensityConfig:
    """Treatment clusters, their propensities, buckets and weights."""

    num_clusters: int = 40
    """Treatment clusters fitted from item embeddings when `items.cluster` is null throughout."""
    num_folds: int = 2
    """User folds for cross-fitting: a user's propensities come from a model that never saw that user."""
    num_buckets: int = 5
    """Propensity buckets: global quantiles over all (journey, cluster) pairs of training users."""
    l2: float = 1e-3
    """Ridge on the propensity models' slopes, per journey."""
    min_propensity: float = 1e-4
    """Propensities are clipped to [min_propensity, 1 - min_propensity] (clip changes values)."""
    max_weight: float = 10.0
    """Stabilised weights are clipped here; the clipped share and the effective sample size are reported."""
    max_fit_journeys: int = 200_000
    """Journeys (the first by hash) a fold's model is fitted on: a few hundred parameters need no more."""

    def __post_init__(self) -> None:
        _require(self.num_clusters >= 2, "propensity.num_clusters", ">= 2", self.num_clusters)
        _require(2 <= self.num_folds <= 100, "propensity.num_folds", "in [2, 100]", self.num_folds)
        _require(self.num_buckets >= 1, "propensity.num_buckets", ">= 1", self.num_buckets)
        _require(self.l2 >= 0, "propensity.l2", ">= 0", self.l2)
        _require(0 < self.min_propensity < 0.5, "propensity.min_propensity", "in (0, .5)", self.min_propensity)
        _require(self.max_weight >= 1, "propensity.max_weight", ">= 1", self.max_weight)
        _require(self.max_fit_journeys >= 100, "propensity.max_fit_journeys", ">= 100", self.max_fit_journeys)


@dataclass(frozen=True)
class PairsConfig:
    """When a touch and an upload are a high-match pair, and what it is contrasted with."""

    match_threshold: float | None = None
    """Cosine similarity from which a (touch, upload) pair is high-match; None: match_quantile decides."""
    match_quantile: float = 0.7
    """Quantile of all in-journey similarities used as the threshold when match_threshold is null."""
    max_pairs_per_upload: int = 3
    """Best matches kept per upload."""
    num_hard_negatives: int = 4
    """Touches of other users in the same propensity bucket drawn per pair, by seeded hash."""

    def __post_init__(self) -> None:
        t = self.match_threshold
        _require(t is None or -1 <= t <= 1, "pairs.match_threshold", "in [-1, 1] or null", t)
        _require(0 <= self.match_quantile < 1, "pairs.match_quantile", "in [0, 1)", self.match_quantile)
        _require(self.max_pairs_per_upload >= 1, "pairs.max_pairs_per_upload", ">= 1", self.max_pairs_per_upload)
        _require(self.num_hard_negatives >= 0, "pairs.num_hard_negatives", ">= 0", self.num_hard_negatives)


@dataclass(frozen=True)
class ExamplesConfig:
    """Who is held out of fits, and how the training table is laid out."""

    validation_share: float = 0.1
    """Share of users (by hash) held out of every fit."""
    num_row_groups: int = 16
    """Equal-sized Parquet row groups of the training table; raised to a multiple of the ranks."""
    max_row_group_rows: int = 65_536
    """More journeys than this a row group make more row groups, so that one always fits a reader's memory."""
    touch_embeddings: bool | None = None
    """Carry the content of every touch, max_touchpoints x embedding length floats a row, so that the model tells items
    of a cluster apart (null: where contents have at most 32 numbers)."""

    def __post_init__(self) -> None:
        _require(0 < self.validation_share < 1, "examples.validation_share", "in (0, 1)", self.validation_share)
        _require(self.num_row_groups >= 1, "examples.num_row_groups", ">= 1", self.num_row_groups)
        _require(self.max_row_group_rows >= 1, "examples.max_row_group_rows", ">= 1", self.max_row_group_rows)


@dataclass(frozen=True)
class ModelConfig:
    """Parts and sizes of the models; a field says which variants read it."""

    embedding_dim: int = 4
    """Length R of a cluster's modulation vector e_c."""
    content_modulation: bool = True
    """Let a touch's strength and modulation lean on its content (on its cluster's mean where it carries none)."""
    content_hidden: int = 16
    """Hidden width of what a content adds to a strength, beside a linear part (0: linear alone)."""
    item_rows: int = 65_536
    """Rows of the hashed table of item effects, pooled under cluster and content (0: items have none of their own);
    about as many as a night has items."""
    author_rows: int = 16_384
    """The same for authors."""
    modulation_hidden: int = 0
    """Hidden width of Phi(X) (0: linear; pays from 200,000 journeys on)."""
    num_decays: int = 3
    """Exponentials the age kernel is a mixture of."""
    signed: bool | None = False
    """Let strengths be of either sign, under an odd link, for touches that discourage (null: latent fits both and keeps
    the one that the held-out journeys' likelihood is for; other variants are not signed)."""
    quadrature_nodes: int = 9
    """Gauss-Hermite nodes over the mediator's noise."""
    sparsity: float = 0.3
    """Nats of likelihood a cluster's stimulus must gain per e-fold to stay above 0 (0: no cost)."""
    exposure_factor: bool = True
    """latent: read one latent factor of p(T|X) and let the outcome's direct part depend on its posterior mean."""
    hidden_intent: bool = True
    """latent: read the hidden intent from the intent proxies, where there are any, as a second latent that may show in
    the outcome proxies and move the outcome."""
    intent_nodes: int = 5
    """Gauss-Hermite nodes over the intent's noise."""
    cluster_sd: float = 0.05
    """latent: standard deviation of the normal prior of what a touch of each cluster says about intent and outcome
    beside the mediator and the exposure factor (few uploads, many clusters)."""
    factor_sd: float = 0.2
    """latent: standard deviation of the normal prior of what the exposure factor says about the outcome beside the
    intent that its proxies show."""
    modulation_sd: float = 0.6
    """latent: standard deviation of the normal prior of how a cluster's own modulation (beside what its content says)
    moves with each standardised covariate: where users are rarely shown a cluster, its effect is extrapolated."""
    rho_init: float = 0.3
    """Start of the concave link's exponent."""
    outcome_leak: bool = True
    """latent: let Y leak into the proxies (kappa, held at 0 for anchors; without an anchor only what differs from the
    loadings can be fitted, and a leak that is found widens the intervals)."""
    signal_heads: int = 14
    """latent: learned heads that stand for the outcome proxies, where those are two or more a head (0: never)."""
    heads_adversary_weight: float = 30.0
    """latent: nats that the heads pay for each nat that they tell of adversary_target (0: no adversary). Raise it where
    the negative control among the diagnostics warns, lower it where it is far from warning."""
    adversary_target: str = "intent"
    """latent's heads: what they must not tell. `intent`: the intent proxies given touches and covariates;
    `outcome_residual`: the outcome given them; `outcome`: the outcome, as in the paper (takes the effect away)."""
    adversary_weight: float = 1.0
    """paper: lambda of the gradient-reversal discriminator of the outcome, reached by a ramp. The mediator there is a
    function of touches and covariates, nothing is left of it given them, so it has no other target."""
    upload_content: str = "likelihood"
    """latent: what an upload's content teaches the stimuli: likelihood (a mixture over the journey's touches and own
    taste; how far to trust it is learned), mixture (InfoNCE of the same), plain (InfoNCE of the best match) or off."""
    contrastive_weight: float = 0.1
    """paper, and latent's mixture and plain: weight of InfoNCE."""
    contrastive_temperature: float = 0.1
    """paper, and latent's mixture and plain: temperature of InfoNCE."""
    balance_weight: float = 1.0
    """balanced: strength of the reversed gradient of the adversary that reads the touches' clusters off the user."""
    use_ipw: bool = False
    """paper: weigh examples by clipped stabilised weights (the effective sample size is logged); backdoor_ipw
    always does, the other back-door models never."""
    frontdoor_neighbours: str = "match"
    """paper: T' of the front-door sum from the `batch`, the same propensity `bucket`, or content `match`."""
    num_neighbours: int = 8
    """paper: T' per journey in the front-door sum."""
    hidden: int = 32
    """Every variant but latent: width of the heads; attention: of its states."""

    def __post_init__(self) -> None:
        for name in ("embedding_dim", "num_decays", "num_neighbours", "hidden"):
            _require(getattr(self, name) >= 1, f"model.{name}", ">= 1", getattr(self, name))
        for name in ("quadrature_nodes", "intent_nodes"):
            _require(1 <= getattr(self, name) <= 64, f"model.{name}", "in [1, 64]", getattr(self, name))
        _require(self.sparsity >= 0, "model.sparsity", ">= 0", self.sparsity)
        for name in ("modulation_hidden", "content_hidden", "item_rows", "author_rows"):
            _require(getattr(self, name) >= 0, f"model.{name}", ">= 0", getattr(self, name))
        for name in ("cluster_sd", "factor_sd", "modulation_sd"):
            _require(getattr(self, name) > 0, f"model.{name}", "> 0", getattr(self, name))
        _require(0 <= self.rho_init <= 1, "model.rho_init", "in [0, 1]", self.rho_init)
        _require(self.adversary_weight >= 0, "model.adversary_weight", ">= 0", self.adversary_weight)
        targets = ("intent", "outcome", "outcome_residual")
        _require(self.adversary_target in targets, "model.adversary_target", f"one of {targets}", self.adversary_target)
        for name in ("signal_heads", "heads_adversary_weight"):
            _require(getattr(self, name) >= 0, f"model.{name}", ">= 0", getattr(self, name))
        contents = ("likelihood", "mixture", "plain", "off")
        _require(self.upload_content in contents, "model.upload_content", f"one of {contents}", self.upload_content)
        _require(self.balance_weight >= 0, "model.balance_weight", ">= 0", self.balance_weight)
        _require(self.contrastive_weight >= 0, "model.contrastive_weight", ">= 0", self.contrastive_weight)
        _require(self.contrastive_temperature > 0, "model.contrastive_temperature", "> 0", self.contrastive_temperature)
        _require(
            self.frontdoor_neighbours in ("batch", "bucket", "match"),
            "model.frontdoor_neighbours",
            "batch, bucket or match",
            self.frontdoor_neighbours,
        )


@dataclass(frozen=True)
class EnsembleConfig:
    """How many fits speak for one effect, and how its interval comes about (model/ensemble.py)."""

    variants: tuple[str, ...] = ("latent",)
    """Models fitted as an ensemble; the others are single fits without intervals, which have seen what they score."""
    folds: int = 5
    """F: users are split into F folds by hash, and a member is fitted on all folds but one."""
    repeats: int = 2
    """R: times users are split anew; R fits that did not see a journey make its effect, of R folds members in all."""
    agreement: float = 0.7
    """Share of the members in which a touch must have an effect at all; below it the effect is 0 (0: whatever any)."""

    shared_error: float = 0.1
    """Relative standard error the intervals allow for what all fits get wrong alike: the model's form, shrinkage."""
    unseen_effect: float = 0.005
    """Standard error they allow besides, as a share of the journey's chance: effects too small for any fit to see."""

    def __post_init__(self) -> None:
        known = ("latent", "backdoor")  # paper learns from gradients turned round by Python, which no batch rule knows
        _require(set(self.variants) <= set(known), "training.ensemble.variants", f"out of {known}", self.variants)
        _require(2 <= self.folds <= 100, "training.ensemble.folds", "in [2, 100]", self.folds)
        _require(1 <= self.repeats <= 100, "training.ensemble.repeats", "in [1, 100]", self.repeats)
        _require(0 <= self.agreement <= 1, "training.ensemble.agreement", "in [0, 1]", self.agreement)
        _require(self.shared_error >= 0, "training.ensemble.shared_error", ">= 0", self.shared_error)
        _require(self.unseen_effect >= 0, "training.ensemble.unseen_effect", ">= 0", self.unseen_effect)

    @property
    def members(self) -> int:
        """M: models fitted side by side."""
        return self.folds * self.repeats


@dataclass(frozen=True)
class TrainingConfig:
    """What is fitted a night, by how many processes and for how long."""

    variants: tuple[str, ...] = ("latent", "backdoor")
    """Models fitted each night, out of VARIANTS. The first is the night's own, the others are compared."""
    placebos: tuple[str, ...] = ("placebo_proxies", "placebo_touch")
    """Models fitted to data in which there is nothing to find, out of PLACEBOS: what they claim is invented
    (diagnostics). Each costs one more single fit a night; the gate lets no model through without the default ones."""
    num_ranks: int = 2
    """Training processes (one a GPU, or one a core's worth of CPU)."""
    local_mode: bool = True
    """True: processes on the driver's machine; False: one Spark task slot each, on the executors."""
    max_restarts: int = 2
    """Times that all ranks start again from the last checkpoint because one of them has died."""
    epochs: int = 20
    """Passes over the training table."""
    batch_size: int = 1024
    """Journeys a step over all ranks."""
    dense_lr: float = 2e-2
    """Peak learning rate of dense parameters (OneCycle)."""
    sparse_lr: float = 2e-2
    """Peak learning rate of embedding parameters."""
    leak_lr: float = 5e-2
    """Learning rate of kappa."""
    weight_decay: float = 1e-5
    """AdamW's decay."""
    clip_norm: float = 5.0
    """Gradient norm is clipped here."""
    ema_decay: float = 0.995
    """Exponential moving average of the weights over the second half; the average is what is kept."""
    loader: str = "petastorm"
    """petastorm or arrow."""
    slow_momentum: float = 0.0
    """SlowMo's beta; with slow_momentum_period 0, plain data-parallel gradients."""
    slow_momentum_period: int = 0
    """Local steps between two averagings of the ranks (0: gradients are averaged every step, DDP)."""
    slow_momentum_lr: float = 1.0
    """SlowMo's alpha."""
    checkpoint_epochs: int = 1
    """Epochs between two checkpoints."""
    precision: str = "auto"
    """float32, bf16, or auto (bf16 on GPU, float32 on CPU)."""
    ensemble: EnsembleConfig = EnsembleConfig()

    def __post_init__(self) -> None:
        _require(
            bool(self.variants)
            and set(self.variants) <= set(VARIANTS)
            and len(set(self.variants)) == len(self.variants),
            "training.variants",
            f"distinct names out of {VARIANTS}",
            self.variants,
        )
        known = set(self.placebos) <= set(PLACEBOS) and len(set(self.placebos)) == len(self.placebos)
        _require(known, "training.placebos", f"distinct names out of {PLACEBOS}", self.placebos)
        _require(0 <= self.max_restarts <= 100, "training.max_restarts", "in [0, 100]", self.max_restarts)
        _require(1 <= self.num_ranks <= 1024, "training.num_ranks", "in [1, 1024]", self.num_ranks)
        for name in ("epochs", "batch_size", "checkpoint_epochs"):
            _require(getattr(self, name) >= 1, f"training.{name}", ">= 1", getattr(self, name))
        for name in ("dense_lr", "sparse_lr", "leak_lr", "clip_norm", "slow_momentum_lr"):
            _require(getattr(self, name) > 0, f"training.{name}", "> 0", getattr(self, name))
        _require(self.weight_decay >= 0, "training.weight_decay", ">= 0", self.weight_decay)
        _require(0 <= self.ema_decay < 1, "training.ema_decay", "in [0, 1)", self.ema_decay)
        _require(self.loader in ("petastorm", "arrow"), "training.loader", "petastorm or arrow", self.loader)
        _require(0 <= self.slow_momentum < 1, "training.slow_momentum", "in [0, 1)", self.slow_momentum)
        _require(self.slow_momentum_period >= 0, "training.slow_momentum_period", ">= 0", self.slow_momentum_period)
        _require(
            self.precision in ("auto", "float32", "bf16"), "training.precision", "auto, float32 or bf16", self.precision
        )


@dataclass(frozen=True)
class AttributionConfig:
    """What is written beside the models, and how journeys are scored."""

    baselines: tuple[str, ...] = ("last_touch", "linear", "time_decay")
    """Methods without a model that are written beside the models, out of BASELINES."""
    half_life_hours: float = 6.0
    """time_decay: age at which a touch's weight has halved."""
    markov_order: int = 1
    """markov: how many last clusters a state remembers; the states must be few enough to solve for."""
    rows_per_batch: int = 4096
    """Journeys the model scores at a time; fixed, so that equal rows give equal bits."""

    def __post_init__(self) -> None:
        _require(
            set(self.baselines) <= set(BASELINES) and len(set(self.baselines)) == len(self.baselines),
            "attribution.baselines",
            f"distinct names out of {BASELINES}",
            self.baselines,
        )
        _require(self.half_life_hours > 0, "attribution.half_life_hours", "> 0", self.half_life_hours)
        _require(self.markov_order >= 1, "attribution.markov_order", ">= 1", self.markov_order)
        _require(self.rows_per_batch >= 1, "attribution.rows_per_batch", ">= 1", self.rows_per_batch)


@dataclass(frozen=True)
class EvaluationConfig:
    """Groups, intervals, sweeps and the experiment's probability."""

    min_group_rows: int = 50
    """Touches a (bucket, cluster) group needs to enter an AUUC."""
    bootstrap_replicates: int = 200
    """Poisson bootstrap replicates, seeded by a hash of the user id (0: no intervals)."""
    interval: float = 0.95
    """Nominal coverage of every reported interval."""
    clip_sweep: tuple[float, ...] = ()
    """Tighter clips than propensity.max_weight under which the observational AUUC is measured again; how far it moves
    is a diagnostic. Each costs one more pass over journeys x clusters."""
    match_sweep: tuple[float, ...] = (1.0, 0.5, 0.1)
    """Shares of the night's matched pairs, the closest first, in which credit is compared with what uploads resemble; a
    diagnostic each."""
    p_withheld: float = 0.5
    """Probability of `withheld` in `withholdings` that have no p_withheld column."""

    def __post_init__(self) -> None:
        _require(self.min_group_rows >= 1, "evaluation.min_group_rows", ">= 1", self.min_group_rows)
        _require(self.bootstrap_replicates >= 0, "evaluation.bootstrap_replicates", ">= 0", self.bootstrap_replicates)
        _require(0 < self.interval < 1, "evaluation.interval", "in (0, 1)", self.interval)
        _require(all(c > 0 for c in self.clip_sweep), "evaluation.clip_sweep", "a list of clips > 0", self.clip_sweep)
        _require(all(0 < s <= 1 for s in self.match_sweep), "evaluation.match_sweep", "in (0, 1]", self.match_sweep)
        _require(0 < self.p_withheld < 1, "evaluation.p_withheld", "in (0, 1)", self.p_withheld)


@dataclass(frozen=True)
class GateConfig:
    """What a night's model must show before it speaks (evaluation/gate.py)."""

    journeys: int = 50_000
    """Journeys (a hash sample of users) on which the candidate and the champion are judged."""
    must_pass: tuple[str, ...] = (
        *("overfit", "proxy_reliability", "outcome_leak", "negative_control", "mediator_overlap"),
        *("impossible_exposure_share", "effective_sample_share", "placebo_proxies", "placebo_touch"),
        *("random_subset_ranking", "champion_comparison"),
    )
    """Kinds of checks whose warning refuses a candidate, as a failure of any does."""
    margin: float = 0.005
    """By how much of McFadden's R2, on held-out journeys, a candidate may fall short of the champion."""

    def __post_init__(self) -> None:
        _require(self.journeys >= 1, "gate.journeys", ">= 1", self.journeys)
        _require(self.margin >= 0, "gate.margin", ">= 0", self.margin)


@dataclass(frozen=True)
class SimulatorConfig:
    """The world that jobs/simulate draws, and how much of it."""

    world: str = "default"
    """One of WORLDS, or random:<k> (simulator/worlds.py, family.py; equations: mechanism.py)."""
    num_users: int = 60_000
    """Users with logs; each has one journey a night unless every slot stays empty."""
    num_nights: int = 1
    """Nights whose logs are written, the last of them ds."""
    items_per_cluster: int = 25
    """Items of each of the named worlds' 40 clusters."""
    base_rate: float | None = None
    """Share of journeys followed by an upload, for which the outcome's intercept is solved; null: the world's own."""
    truth_share: float = 0.8
    """Hash-sampled share of users whose exact effects are written to truth_attribution."""
    withholding_share: float = 0.2
    """Hash-sampled share of users in the withholding experiment (outside the truth sample)."""
    randomised_users: int = 0
    """Further users whose whole sequence is drawn uniformly, written to randomised_* tables."""
    duplicate_rate: float = 0.001
    """Share of exposure rows written twice, as real logs have them."""

    def __post_init__(self) -> None:
        known = self.world in WORLDS or re.fullmatch("random:[0-9]+", self.world) is not None
        _require(known, "simulator.world", f"one of {', '.join(WORLDS)}, or random:0, random:1, ...", self.world)
        for name in ("num_users", "num_nights", "items_per_cluster"):
            _require(getattr(self, name) >= 1, f"simulator.{name}", ">= 1", getattr(self, name))
        _require(self.randomised_users >= 0, "simulator.randomised_users", ">= 0", self.randomised_users)
        rate = self.base_rate
        _require(rate is None or 0 < rate < 1, "simulator.base_rate", "in (0, 1) or null", rate)
        for name in ("truth_share", "withholding_share", "duplicate_rate"):
            _require(0 <= getattr(self, name) <= 1, f"simulator.{name}", "in [0, 1]", getattr(self, name))
        total = self.truth_share + self.withholding_share
        _require(total <= 1, "simulator.truth_share + simulator.withholding_share", "<= 1", total)


@dataclass(frozen=True)
class TrackingConfig:
    """Where MLflow is, and under which names nights are logged there."""

    uri: str = "sqlite:///{root}/mlflow.db"
    """MLflow tracking URI; {root} is the warehouse's parent folder. MLFLOW_TRACKING_URI goes before it."""
    artifacts: str = "{root}/mlartifacts"
    """Artifact folder of an experiment this job creates (a tracking server decides for itself)."""
    registered_model: str = "almmta"
    """Name in the model registry."""

    def __post_init__(self) -> None:
        for name in ("uri", "artifacts"):
            only_root = not re.search(r"[{}]", getattr(self, name).replace("{root}", ""))
            rule = "a location, with {root} or no braces in it"
            _require(bool(getattr(self, name)) and only_root, f"tracking.{name}", rule, getattr(self, name))
        model = self.registered_model
        _require(
            re.fullmatch(r"[\w-]+", model) is not None, "tracking.registered_model", "letters, digits, - and _", model
        )


@dataclass(frozen=True)
class PublishingConfig:
    """Who may write a night, and how long what was replaced stays (night_log.py)."""

    keep_nights: float = 7.0
    """Days that a replaced edition of a night stays, for slow readers and for jobs/rollback.py; the one before the
    current always does."""
    lease_seconds: float = 120.0
    """A claim that has not been renewed for so long has expired: its owner is dead, and the next run takes it over."""
    wait_minutes: float = 240.0
    """How long a second run of a night waits for the first to end before it is refused (0: refused at once)."""

    def __post_init__(self) -> None:
        _require(0 <= self.keep_nights <= 3660, "publishing.keep_nights", "in [0, 3660]", self.keep_nights)
        lease, wait = self.lease_seconds, self.wait_minutes
        _require(0 < lease <= 86_400, "publishing.lease_seconds", "> 0 and <= 86400, a day", lease)
        _require(0 <= wait <= 10_080, "publishing.wait_minutes", "in [0, 10080], a week", wait)


@dataclass(frozen=True)
class Config:
    """All settings of a night: what conf/*.yaml and --set may say. Unknown keys are refused."""

    env: str = "local"
    """Name in the MLflow experiment: almmta/<env>/nightly."""
    warehouse: str = "warehouse"
    """Root of all tables: a local folder or any Hadoop URL."""
    seed: int = 0
    """Seeds every hash, draw and initialisation."""
    pool_nights: int = 1
    """Nights up to ds (those published) that fitting, training and evaluation pool."""
    lateness_nights: int = 0
    """Nights before those asked for that jobs/nightly runs again where rows that came late have changed their input."""
    report_file: str = ""
    """Where nightly writes the night's summary as JSON (empty: nowhere)."""
    log_format: str = "text"
    """Of the job's messages on stderr: text, or json (an object a line, for whoever collects logs)."""
    spark: Mapping[str, str] = field(default_factory=dict)
    """Spark settings a plain `python -m jobs.x` run uses; spark-submit's own go before them."""
    signals: Mapping[str, SignalConfig] = field(default_factory=dict)
    """Role, kind and anchor of each signal name; an unknown name is an outcome_proxy and the summary says so."""
    ingest: IngestConfig = IngestConfig()
    journeys: JourneysConfig = JourneysConfig()
    propensity: PropensityConfig = PropensityConfig()
    pairs: PairsConfig = PairsConfig()
    examples: ExamplesConfig = ExamplesConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    attribution: AttributionConfig = AttributionConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig = GateConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    publishing: PublishingConfig = PublishingConfig()
    tracking: TrackingConfig = TrackingConfig()

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", ">= 0", self.seed)
        _require(1 <= self.pool_nights <= 366, "pool_nights", "in [1, 366]", self.pool_nights)
        _require(0 <= self.lateness_nights <= 366, "lateness_nights", "in [0, 366]", self.lateness_nights)
        _require(all(name.strip() for name in self.signals), "signals", "names that are not blank", list(self.signals))
        _require(bool(self.warehouse), "warehouse", "a folder or URL", self.warehouse)
        _require(self.log_format in LOG_FORMATS, "log_format", f"one of {LOG_FORMATS}", self.log_format)
        _require(re.fullmatch(r"[\w-]+", self.env) is not None, "env", "letters, digits, - and _", self.env)
        _require(all(k.startswith("spark.") for k in self.spark), "spark", "settings spark.*", sorted(self.spark))


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a YAML file, with `key=value` overrides (dotted keys, YAML values) applied on top."""
    merged = _read_yaml(Path(path))
    for override in overrides:
        key, eq, text = override.partition("=")
        if not eq or not key:
            raise ValueError(f"--set takes key=value, got {override!r}: for example --set journeys.max_touchpoints=32")
        _set(merged, key.split("."), _parsed(text, f"--set {override}") if text else "", override)
    return typing.cast(Config, _build(Config, merged, "", str(path)))


def to_dict(conf: Any) -> Any:
    """Plain dicts, lists and scalars, for YAML, JSON and MLflow."""
    if dataclasses.is_dataclass(conf):
        return {f.name: to_dict(getattr(conf, f.name)) for f in dataclasses.fields(conf)}
    if isinstance(conf, Mapping):
        return {k: to_dict(v) for k, v in sorted(conf.items())}
    return [to_dict(v) for v in conf] if isinstance(conf, tuple) else conf


def from_dict(raw: Mapping[str, Any]) -> Config:
    """Inverse of to_dict."""
    return typing.cast(Config, _build(Config, raw, "", "dict"))


def digest(conf: Any) -> str:
    """SHA-256 of the settings; equal configs have equal digests."""
    return hashlib.sha256(json.dumps(to_dict(conf), sort_keys=True).encode()).hexdigest()


def _read_yaml(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"no configuration file at {path}: pass --conf conf/local.yaml or another one in conf/")
    raw = _parsed(path.read_bytes(), str(path)) or {}
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must hold a mapping of keys, got {type(raw).__name__}: write key: value lines")
    base, seen = raw.pop("extends", None), (*extended_by, path.resolve())
    if base is None:
        return raw
    if not isinstance(base, str) or (path.parent / base).resolve() in seen:
        raise ValueError(
            f"extends must name another file, none that extends this one, got {base!r} in {path}: write extends: "
            "local.yaml, or leave the key out"
        )
    return _merge(_read_yaml(path.parent / base, seen), raw)


class _Loader(yaml.SafeLoader):
    """YAML whose keys stand once: the last of several would hide the others."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in [key for key, _ in node.value if isinstance(key.value, str)]:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} stands twice", key.start_mark)
            seen.add(key.value)
        return dict(super().construct_mapping(node, deep))


def _parsed(text: str | bytes, source: str) -> Any:
    """The YAML value. ValueError, naming source and place, where the text is none."""
    try:
        return yaml.load(text, _Loader)  # of the safe kind
    except Exception as error:  # of many kinds, where a tag and its value do not go together
        reason = " ".join(f"{type(error).__name__} {error}".split())[:300]
        raise ValueError(f"{source} must be YAML in UTF-8, is not: {reason}: correct it there") from None


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _set(target: dict[str, Any], keys: list[str], value: Any, text: str) -> None:
    if keys[0] == "spark" and len(keys) > 2:  # Spark's own keys have dots
        keys = ["spark", ".".join(keys[1:])]
    for key in keys[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise ValueError(f"--set {text}: {key} is a value, not a section")
    target[keys[-1]] = value


def _build(kind: Any, value: Any, key: str, source: str) -> Any:
    """The value as the declared type; errors name the key, the rule, the value and the file."""
    origin, args = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, key, source)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _build(args[0], value, key, source)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{key} must be a list, got {value!r} in {source}: write [a, b]")
        return tuple(_build(args[0], v, key, source) for v in value)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{key} must be a mapping, got {value!r} in {source}: write key: value lines under it")
        return {str(k): _build(args[1], v, f"{key}.{k}", source) for k, v in value.items()}
    if kind in (int, float) and not isinstance(value, bool):
        value = _number(kind, value, key, source)
    if kind is str and key.startswith("spark.") and isinstance(value, (bool, int, float)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{key} must be {kind.__name__}, got {value!r} in {source}: correct the value")
    return value


def _number(kind: Any, value: Any, key: str, source: str) -> Any:
    """A float from an int, or from text (YAML 1.1 reads 1e-3 as a string); other values are left to the check of types.
    ValueError: a number that is not finite, or too large to be meant."""
    if kind is float and isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, (int, float)) and not abs(value) <= _LARGEST[kind]:
        rule, found = f"finite and at most {_LARGEST[kind]:g} in size", str(value)[:40]
        raise ValueError(f"{key} must be {rule}, got {found} in {source}: correct the value")
    return float(value) if kind is float and isinstance(value, int) else value


def _build_dataclass(kind: Any, value: Any, key: str, source: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{key or 'the file'} must be a mapping of keys, got {value!r} in {source}: write key: value lines under it"
        )
    hints = get_type_hints(kind)
    unknown = sorted(set(map(str, value)) - set(hints))
    if unknown:
        name = f"{key}.{unknown[0]}" if key else unknown[0]
        raise ValueError(f"unknown config key {name} in {source}: known here are {', '.join(sorted(hints))}")
    return kind(**{k: _build(hints[k], v, f"{key}.{k}" if key else k, source) for k, v in value.items()})
