"""One journey against the truth, as studies and notebooks draw it."""

import numpy as np
import pytest

from almmta_spark.evaluation import exact
from almmta_spark.study.figures import Journey

METHODS = ["latent", "linear"]


def test_a_journey_has_its_touches_in_order_with_truth_and_every_methods_effect(small_night):
    inputs = small_night.inputs
    found = exact.one_journey(inputs.attribution, inputs.truth, METHODS, 3)
    local = small_night.touches
    uploads = local[(local.outcome == 1) & local.truth]
    long = uploads.groupby("journey_id").filter(lambda of: len(of) >= 3)
    expected = long[long.journey_id == long.journey_id.min()].sort_values("touch_id")  # ids in order of time
    assert found["ett"] == pytest.approx(expected.ett.to_numpy())
    assert found["latent"] == pytest.approx(expected.latent.to_numpy())
    assert found["cluster"].tolist() == list(expected.cluster)
    assert (np.diff(found["age_hours"]) < 0).all()
    assert (found["latent_lower"] < found["latent"]).all() and np.isnan(found["linear_upper"]).all()
    drawn = Journey.of(found, METHODS)
    assert list(drawn.effects) == METHODS and drawn.lower is not None and (drawn.lower < drawn.upper).all()
    assert Journey.of(found, METHODS[::-1]).lower is None


def test_where_no_journey_is_so_long_it_says_so(small_night):
    with pytest.raises(ValueError, match="no journey with an upload has 9 touches of known effect"):
        exact.one_journey(small_night.inputs.attribution, small_night.inputs.truth, METHODS, 9)
