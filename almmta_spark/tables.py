"""Every table, once: columns, key and meaning. Spark, Arrow and Petastorm schemas are rendered from here.

Types are Spark DDL types. A table's night lies under <warehouse>/<name>/ds=YYYY-MM-DD/; ds is the directory alone.
"""

from __future__ import annotations

from dataclasses import dataclass

DS_FORMAT = "%Y-%m-%d"


@dataclass(frozen=True)
class Column:
    """One column, its type in Spark's words."""

    name: str
    type: str
    meaning: str
    nullable: bool = False
    optional: bool = False
    """An input may leave the column out; it is then read as null."""


@dataclass(frozen=True)
class Table:
    """Schema, key and meaning of one table."""

    name: str
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    def type_of(self, name: str) -> str:
        """DDL type of a column."""
        return next(c.type for c in self.columns if c.name == name)

    @property
    def ddl(self) -> str:
        """Spark DDL of the whole row."""
        return ", ".join(f"{c.name} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in self.columns)


def _c(text: str, nullable: bool = False, optional: bool = False) -> Column:
    """`name type | meaning`."""
    head, _, meaning = text.partition(" | ")
    name, _, kind = head.partition(" ")
    return Column(name, kind.strip(), meaning, nullable or optional, optional)


def _n(text: str) -> Column:
    return _c(text, nullable=True)


# ---- what the platform writes -------------------------------------------------------------------------------------

EXPOSURES = Table(
    "exposures",
    "what was shown: one row a touch",
    ("user_id", "item_id", "event_ts"),
    (_c("user_id bigint | who"), _c("item_id bigint | what"), _c("event_ts timestamp | when, UTC")),
)
SIGNALS = Table(
    "signals",
    "acts of a user: one row an event",
    (),
    (
        _c("user_id bigint | who"),
        _c("signal string | name of the act; conf gives its roles"),
        _c("event_ts timestamp | when, UTC"),
        _c("value double | amount, 1.0 for an event; summed"),
    ),
)
UPLOADS = Table(
    "uploads",
    "what users created",
    ("upload_id",),
    (
        _c("user_id bigint | who"),
        _c("upload_id bigint | what"),
        _c("event_ts timestamp | when, UTC"),
        _n("embedding array<float> | its content"),
    ),
)
ITEMS = Table(
    "items",
    "what can be shown: a snapshot",
    ("item_id",),
    (
        _c("item_id bigint | what"),
        _c("author_id bigint | whose"),
        _n("cluster int | treatment cluster; null for every item: fitted from the embeddings"),
        _n("embedding array<float> | its content"),
    ),
)
USERS = Table(
    "users",
    "who can be shown something: a snapshot",
    ("user_id",),
    (_c("user_id bigint | who"), _c("covariates array<float> | X, raw scale; NaN or null where unknown")),
)
WITHHOLDINGS = Table(
    "withholdings",
    "randomised decisions to withhold one touch",
    ("user_id", "item_id", "event_ts"),
    (
        _c("user_id bigint | who"),
        _c("item_id bigint | the touch's item"),
        _c("event_ts timestamp | when it was or would have been shown, UTC"),
        _c("withheld boolean | true: not shown and not in exposures"),
        _c("p_withheld double | probability of withheld", optional=True),
    ),
)
INPUTS = (EXPOSURES, SIGNALS, UPLOADS, ITEMS, USERS, WITHHOLDINGS)

# ---- only the simulator writes --------------------------------------------------------------------------------------

TRUTH_ATTRIBUTION = Table(
    "truth_attribution",
    "exact effects (METHOD section 5), of a hash sample of users",
    ("user_id", "touch_id"),
    (
        _c("user_id bigint | who"),
        _c("touch_id bigint | xxhash64(user_id, item_id, event_ts)"),
        _c("ett double | E[Y - Y(T without k) | T, X]: the estimand"),
        _c("ate_x double | the same integrated over p(W | X)"),
    ),
)
TRUTH_CLUSTERS = Table(
    "truth_clusters",
    "the world's cluster constants",
    ("cluster",),
    (_c("cluster int | treatment cluster"), _c("strength double | s_k, and what acts beside M; 0 where nothing does")),
)
RANDOMISED_EXPOSURES = Table(
    "randomised_exposures", "exposures of users whose sequence was drawn uniformly", EXPOSURES.key, EXPOSURES.columns
)
RANDOMISED_UPLOADS = Table("randomised_uploads", "uploads of the same users", UPLOADS.key, UPLOADS.columns)
TRUTH_RANDOMISED = Table(
    "truth_randomised",
    "the best possible prediction of an upload under randomised exposure: one row a journey of the same users",
    ("user_id",),
    (
        _c("user_id bigint | who"),
        _c("p_outcome double | P(Y = 1 | do(T), X), exact"),
        _c("outcome int | 1: an upload followed"),
    ),
)

# ---- what a night writes on its way ---------------------------------------------------------------------------------

REJECTED_ROWS = Table(
    "rejected_rows",
    "refused input rows",
    (),
    (
        _c("source string | input table"),
        _c("reason string | the rule it breaks"),
        _c("row string | the row as JSON"),
    ),
)
ACCEPTED_UPLOADS = Table(
    "accepted_uploads",
    "uploads of the outcome window that break no rule; with them what ingest found in all input tables",
    UPLOADS.key,
    UPLOADS.columns,
)
ITEM_CLUSTERS = Table(
    "item_clusters",
    "the night's items, each with its cluster (given, fitted or nearest centroid)",
    ("item_id",),
    (
        _c("item_id bigint | what"),
        _c("author_id bigint | whose"),
        _c("cluster int | treatment cluster"),
        _n("embedding array<float> | its content"),
    ),
)
TOUCH = (
    "struct<touch_ts: timestamp, touch_id: bigint, item_id: bigint, author_id: bigint, cluster: int, age_hours: float>"
)
UPLOAD = "struct<event_ts: timestamp, upload_id: bigint, embedding: array<float>>"
SIGNAL_SUM = "struct<signal: string, value: double>"
JOURNEYS = Table(
    "journeys",
    "what one user consumed in the lookback window, and what followed: one row per user with a touch",
    ("journey_id",),
    (
        _c("journey_id bigint | xxhash64(user_id, ds)"),
        _c("user_id bigint | who"),
        _c(f"touches array<{TOUCH}> | oldest first, at most max_touchpoints"),
        _c("covariates array<float> | X, raw"),
        _c("outcome int | 1: an upload in the outcome window"),
        _c(f"outcome_proxies array<{SIGNAL_SUM}> | per signal name in the lookback window, by name"),
        _c(f"intent_proxies array<{SIGNAL_SUM}> | the same in the pre_hours before it"),
        _c(f"uploads array<{UPLOAD}> | of the outcome window, oldest first"),
    ),
)
PROPENSITIES = Table(
    "propensities",
    "P(the journey holds a touch of cluster c | X) for every cluster, cross-fitted by user",
    ("journey_id",),
    (
        _c("journey_id bigint | xxhash64(user_id, ds); users with a withholding decision but no touch have one too"),
        _c("user_id bigint | who"),
        _c("fold int | of the user; the model that speaks was fitted on the other folds"),
        _c("is_validation int | 1: the user is held out of every single fit; an ensemble holds out folds of its own"),
        _c("cluster array<int> | all clusters, ascending: the index of the arrays below"),
        _c("exposed array<boolean> | the journey holds a touch of the cluster"),
        _c("propensity array<float> | clipped"),
        _c("propensity_bucket array<int> | 0-based, from global quantiles"),
        _c("stabilized_weight array<float> | of the observed exposure state, clipped"),
    ),
)
MATCHED_PAIRS = Table(
    "matched_pairs",
    "high-match (consumption, upload) pairs with hard negatives",
    ("upload_id", "touch_id"),
    (
        _c("journey_id bigint | whose journey"),
        _c("user_id bigint | who"),
        _c("upload_id bigint | the upload"),
        _c("touch_id bigint | the touch it resembles"),
        _c("touch_position int | 0-based, in the journey's touches"),
        _c("match_score float | cosine similarity of the two contents"),
        _c("match_rank int | 1: best of the upload"),
        _c("propensity_bucket int | of the touch"),
        _c("negative_touch_id array<bigint> | touches of other users in the bucket"),
        _c("negative_item_id array<bigint> | their items"),
        _c("negative_cluster array<int> | their clusters"),
    ),
)
TRAINING_EXAMPLES = Table(
    "training_examples",
    "fixed-length, non-null, numeric rows for the loader; lists of L = max_touchpoints are padded with 0 at the end",
    ("journey_id",),
    (
        _c("journey_id bigint | key"),
        _c("user_id bigint | key"),
        _c("is_validation int | 1: held out of single fits"),
        _c("outcome float | Y"),
        _c("outcome_proxies array<float> | Y', J values in the spec's order"),
        _c("intent_proxies array<float> | Z, in the spec's order"),
        _c("covariates array<float> | X, standardised and imputed, D values"),
        _c("num_touches int | the first num_touches entries of the lists below are real"),
        _c("cluster_index array<int> | L: index into the spec's clusters"),
        _c("item_id array<bigint> | L"),
        _c("author_id array<bigint> | L"),
        _c("item_touches array<int> | L: touches of the item in the training rows"),
        _c("author_touches array<int> | L: touches of the author in the training rows"),
        _c("age_hours array<float> | L"),
        _c("propensity_bucket array<int> | L: of the touch's cluster"),
        _c("touch_weight array<float> | L: stabilised weight of the touch's cluster"),
        _c("match_position int | position of the best-matching touch, -1: none"),
        _c("match_score float | its similarity, 0 where none"),
        _c("has_upload_embedding int | 1: the journey has an upload with content"),
        _c("upload_embedding array<float> | E: content of the first upload, 0 where none"),
        _c("negative_cluster_index array<int> | num_hard_negatives clusters of hard negatives, -1: none"),
        _c("touch_embedding array<float> | L x E flattened where the spec says touch_embeddings, else length 1"),
    ),
)

# ---- what is kept of each day, for every night that reads it (event_days.py) -----------------------------------------

EVENT_DAYS = Table(
    "event_days",
    "a day's exposures or signals by user: one row a user, part of the day and, of signals, name; refused rows as JSON",
    ("source", "user_id", "part_ts", "signal", "reason", "refused"),
    (
        _c("user_id bigint | who; of refused rows a hash of them"),
        _c("source string | exposures or signals"),
        _n("part_ts timestamp | start of the part of the day, which a night's windows hold whole or not at all"),
        _n("signal string | signals: name"),
        _n("reason string | refused: the rule it breaks"),
        _n("refused string | refused: the row as JSON"),
        _c("num_rows bigint | input rows behind it"),
        _c("num_kept bigint | those that are no more than MOST_TOUCHPOINTS touches"),
        _n("millionths bigint | signals: sum of the values"),
        _n("touch_ts array<timestamp> | exposures: newest first"),
        _n("touch_id array<bigint> | xxhash64(user_id, item_id, event_ts)"),
        _n("item_id array<bigint> | what was shown"),
        _n("copies array<int> | rows that are equal on the three"),
    ),
)

# ---- what a night answers -------------------------------------------------------------------------------------------

ATTRIBUTION = Table(
    "attribution",
    "a touchpoint of a journey, for each method",
    ("journey_id", "touch_id", "method"),
    (
        _c("journey_id bigint | whose journey"),
        _c("user_id bigint | who"),
        _c("touch_id bigint | which touch"),
        _c("item_id bigint | of what"),
        _c("author_id bigint | by whom"),
        _c("cluster int | of which cluster"),
        _c("touch_ts timestamp | when, UTC"),
        _c("age_hours float | hours before index_ts"),
        _c("removal_effect double | E[Y - Y(T without k) | T, X], signed"),
        _n("removal_effect_lower double | of the evaluation.interval interval (causal/jackknife); null: no ensemble"),
        _n("removal_effect_upper double | its other end"),
        _n("removal_effect_members array<float> | by each fit of the ensemble, those that saw the user too"),
        _n("removal_effect_ate double | the same at E[Y | m, T', X], mean over T' given X (ATE-X); null: no such"),
        _c("credit double | max(removal_effect, 0)"),
        _c("attribution_share double | credit / sum of the journey's credit; 0 where all are 0"),
        _n("p_outcome double | P(Y = 1 | T, X) of the method; null for heuristics"),
        _n("p_outcome_deleted double | the same with the touch deleted"),
        _c("propensity_bucket int | bucket of the journey's propensity for the touch's cluster"),
        _c("outcome int | 1: an upload followed"),
        _c("method string | latent, latent_calibrated, paper, backdoor, last_touch, ..."),
        _c("model_version string | digest of weights and config"),
    ),
)


def _rollup(name: str, key: str, kind: str) -> Table:
    intervals = tuple(
        _n(f"{figure}_{side} double | of the interval, from the sums of each fit of the ensemble; null: no ensemble")
        for figure in ("removal_effect_sum", "removal_effect_mean", "credit_sum", "efficiency")
        for side in ("lower", "upper")
    )
    return Table(
        name,
        f"attribution summed by {key}",
        (key, "method"),
        (
            _c(f"{key} {kind} | group"),
            _c("method string | which method"),
            _c("exposures bigint | touches of the group"),
            _c("users bigint | distinct users"),
            _c("outcomes bigint | touches in journeys that ended in an upload"),
            _c("removal_effect_sum double | uploads caused"),
            _c("removal_effect_mean double | per touch"),
            _c("credit_sum double | sum of max(removal_effect, 0)"),
            _c("attribution_share_sum double | sum of shares over journeys with an upload"),
            _c("efficiency double | removal_effect_sum / exposures"),
            *intervals,
            _c("model_version string | of the method"),
        ),
    )


ATTRIBUTION_BY_ITEM = _rollup("attribution_by_item", "item_id", "bigint")
ATTRIBUTION_BY_AUTHOR = _rollup("attribution_by_author", "author_id", "bigint")
ATTRIBUTION_BY_CLUSTER = _rollup("attribution_by_cluster", "cluster", "int")
ROLLUPS = (ATTRIBUTION_BY_ITEM, ATTRIBUTION_BY_AUTHOR, ATTRIBUTION_BY_CLUSTER)

EXPOSURE_EFFICIENCY = Table(
    "exposure_efficiency",
    "what a further share of the night's exposures would cause, were it given to the groups that a ranking puts first",
    ("level", "ranking", "share"),
    (
        _c("level string | what is ranked: item, author or cluster"),
        _c("ranking string | a method, by its mean effect; popularity; present_policy: none; truth (simulator only)"),
        _c("share double | x, of the night's exposures"),
        _c("exposures double | share x exposures of the night: no group gets more of them than it has"),
        _c("num_groups bigint | groups that get some"),
        _c("uploads double | what these exposures cause: share of the night's sum + extra_uploads"),
        _c("extra_uploads double | beyond the present policy, by the night's own model"),
        _n("extra_uploads_lower double | of the evaluation.interval interval (causal/reallocation); null: no ensemble"),
        _n("extra_uploads_upper double | its other end"),
        _c("behind_model double | extra_uploads of the night's own model's ranking - extra_uploads"),
        _n("behind_model_lower double | of its own interval: both rankings are judged by the same fits"),
        _n("behind_model_upper double | its other end"),
        _n("true_extra_uploads double | by exact effects, of the ranking by all users (simulator only)"),
        _c("cross_fitted boolean | the model's ranking was judged by users that did not rank; false: no ensemble"),
    ),
)

JOURNEY_SCORES = Table(
    "journey_scores",
    "a journey, for each model: what evaluation and diagnostics need, so that they never load a model",
    ("journey_id", "method"),
    (
        _c("journey_id bigint | whose"),
        _c("user_id bigint | who"),
        _c("method string | which model"),
        _c("outcome int | Y"),
        _c("is_validation int | 1: held out of single fits"),
        _c("p_outcome double | P(Y = 1 | T, X)"),
        _n("p_do double | P(Y = 1 | do(T), X); null where a model has none"),
        _n("mu double | mean of the mediator given T, X"),
        _n("g0 double | outcome's part beside the mediator, logit"),
        _n("slope double | b(X)"),
        _n("posterior_mean double | E[eps | Y', T, X]"),
        _n("mediator_overlap double | exp(-(mu - mu without the touch)^2), of the touch where it is least"),
        _n("leak_gain double | log likelihood gained by letting Y leak into Y'; null without such a term"),
        _n("intent_residual double | intent shown by Z beyond T and X: E[z | Z, T, X]; null without intent proxies"),
        _c("sample string | logged or randomised (the simulator's uniformly drawn sequences)"),
        _c("model_version string | of the model"),
    ),
)
PROTOCOLS = ("exact", "randomised", "observational", "observational_doubly_robust")
"""How uplift is known, best first (evaluation/grouped.py)."""
GROUPED_UPLIFT = Table(
    "grouped_uplift",
    "mean score and mean effect of a (bucket, cluster) group",
    ("propensity_bucket", "cluster", "method", "protocol"),
    (
        _c("propensity_bucket int | bucket"),
        _c("cluster int | treatment cluster"),
        _c("method string | whose score"),
        _c(f"protocol string | one of {', '.join(PROTOCOLS)}"),
        _c("estimand string | what uplift estimates"),
        _c("n bigint | rows behind uplift"),
        _c("touches bigint | attribution touches of the group: its share of the population in the curve"),
        _c("score double | mean removal_effect of the method in the group"),
        _n("uplift double | mean effect per exposed touch; null with a reason where undefined"),
        _n("uplift_lower double | bootstrap"),
        _n("uplift_upper double | bootstrap"),
        _n("undefined_reason string | why uplift is null"),
    ),
)
AUUC_BY_BUCKET = Table(
    "auuc_by_bucket",
    "area under the grouped uplift curve; bucket -1 is all buckets together",
    ("propensity_bucket", "method", "protocol"),
    (
        _c("propensity_bucket int | bucket; -1: all"),
        _c("method string | whose ranking"),
        _c(f"protocol string | one of {', '.join(PROTOCOLS)}"),
        _n("auuc double | area, unnormalised"),
        _n("auuc_lower double | bootstrap"),
        _n("auuc_upper double | bootstrap"),
        _n("auuc_normalised double | (A - A_random) / (A_oracle - A_random)"),
        _n("auuc_normalised_lower double | bootstrap"),
        _n("auuc_normalised_upper double | bootstrap"),
        _n("qini double | A - A_random"),
        _n("qini_lower double | bootstrap"),
        _n("qini_upper double | bootstrap"),
        _c("n bigint | rows"),
        _c("num_groups int | clusters with at least min_group_rows"),
        _n("undefined_reason string | why the figures are null"),
    ),
)
TRUTH_METRICS = Table(
    "truth_metrics",
    "estimates against the exact effects (simulator only), and upload_auc_* (METHOD section 6)",
    ("method", "metric"),
    (
        _c("method string | whose estimates"),
        _c("metric string | within_journey_spearman, relative_rmse, ..."),
        _n("value double | the figure"),
        _c("n bigint | touches (upload_auc_*: journeys) behind it"),
    ),
)
DIAGNOSTICS = Table(
    "diagnostics",
    "checks that need no truth",
    ("name",),
    (
        _c("name string | the check"),
        _n("value double | measured"),
        _n("threshold double | where it warns"),
        _c("verdict string | pass, warn or fail"),
        _c("advice string | what to do"),
    ),
)
GATE = Table(
    "gate",
    "what the gate asked of the night's candidate, the model trained tonight",
    ("name",),
    (
        *DIAGNOSTICS.columns,
        _c("refuses boolean | the candidate was refused for it"),
    ),
)

OUTPUTS = (
    REJECTED_ROWS,
    ACCEPTED_UPLOADS,
    ITEM_CLUSTERS,
    JOURNEYS,
    PROPENSITIES,
    MATCHED_PAIRS,
    TRAINING_EXAMPLES,
    GATE,
    ATTRIBUTION,
    *ROLLUPS,
    EXPOSURE_EFFICIENCY,
    JOURNEY_SCORES,
    GROUPED_UPLIFT,
    AUUC_BY_BUCKET,
    TRUTH_METRICS,
    DIAGNOSTICS,
)
SIMULATED = (TRUTH_ATTRIBUTION, TRUTH_CLUSTERS, RANDOMISED_EXPOSURES, RANDOMISED_UPLOADS, TRUTH_RANDOMISED)
BY_NAME = {t.name: t for t in (*INPUTS, *SIMULATED, EVENT_DAYS, *OUTPUTS)}
