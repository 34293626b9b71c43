"""Training an ensemble is training each member: its gradients are clipped, stepped and averaged as if it were alone."""

import dataclasses

import pytest
import torch
from torch import nn

from almmta_spark.config import EnsembleConfig, ModelConfig, TrainingConfig
from almmta_spark.model import build, saved
from almmta_spark.model.ensemble import Ensemble, left_out
from almmta_spark.training import main, optimiser
from almmta_spark.training.request import FitRequest
from tests.unit.training.conftest import trainer

pytestmark = pytest.mark.long

PLAN = EnsembleConfig(variants=("latent",), folds=3, repeats=1)
CONF = ModelConfig(sparsity=0.0)  # the sparsity cost is a mean over the rows at hand: a member's own, or all


def members(spec, model: type[Ensemble] = Ensemble) -> Ensemble:
    found = model("latent", spec, CONF, PLAN, seed=0)
    found.reset_parameters(torch.Generator().manual_seed(0))
    return found


class Alone(nn.Module):
    """One member as a single model that weighs its rows."""

    def __init__(self, spec, ensemble: Ensemble, member: int) -> None:
        super().__init__()
        self.single, self.member = build("latent", spec, CONF), member
        with torch.no_grad():
            for name, parameter in self.single.named_parameters():
                parameter.copy_(ensemble.get_parameter(f"stacked.{name}")[member])

    def parameter_groups(self):
        return self.single.parameter_groups()

    def project(self):
        self.single.project()

    def forward(self, batch, progress):
        out_B = left_out(batch.user_id_B, PLAN, 0)[self.member]
        weight_B = ~out_B * 1.5 if self.training else out_B * 3.0
        return self.single(batch, progress, weight_B)


@pytest.mark.long
@pytest.mark.parametrize("settings", [{"clip_norm": 0.5}, {"slow_momentum_period": 3, "slow_momentum": 0.5}])
def test_an_ensemble_ends_where_its_members_trained_alone_do(sample, tmp_path, settings):
    """Adam makes up to 1e-3 of rounding; the weights move by about .3."""
    settings |= {"epochs": 2}
    ensemble = members(sample.spec)
    singles = [Alone(sample.spec, ensemble, member) for member in range(PLAN.members)]
    together = trainer(sample, tmp_path / "together", ensemble, **settings)
    history = together.fit()
    losses = []
    for member, single in enumerate(singles):
        losses.append(trainer(sample, tmp_path / f"{member}", single, **settings).fit()[-1]["held_out"]["loss"])
        for name, parameter in single.single.named_parameters():
            of_member = ensemble.get_parameter(f"stacked.{name}")[member]
            torch.testing.assert_close(
                of_member, parameter, atol=2e-3, rtol=1e-2, msg=lambda t, name=name: f"{name} {t}"
            )
    assert history[-1]["held_out"]["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_a_members_gradient_is_clipped_by_its_own_norm():
    stacked = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2))]
    stacked[0].grad, stacked[1].grad = torch.tensor([[3.0, 0, 0], [0.3, 0, 0]]), torch.tensor([4.0, 0.4])
    norm = optimiser.clip_gradients(stacked, 1.0, num_members=2)
    assert float(norm) == pytest.approx(5.0)
    torch.testing.assert_close(stacked[0].grad[:, 0], torch.tensor([0.6, 0.3]))
    torch.testing.assert_close(stacked[1].grad, torch.tensor([0.8, 0.4]))


class Interrupted(Exception):
    pass


class Fails(Ensemble):
    calls = 0

    def forward(self, batch, progress=1.0):
        self.calls += self.training
        if self.calls > 12:
            raise Interrupted()
        return super().forward(batch, progress)


def test_an_ensemble_resumes_to_the_same_bits(sample, tmp_path):
    whole = members(sample.spec)
    trainer(sample, tmp_path / "whole", whole, epochs=2).fit()
    with pytest.raises(Interrupted):
        trainer(sample, tmp_path / "broken", members(sample.spec, Fails), epochs=2).fit()
    resumed = members(sample.spec)
    trainer(sample, tmp_path / "broken", resumed, epochs=2).fit()
    assert (tmp_path / "broken" / "checkpoint-0001.pt").exists()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_fit_of_a_variant_in_the_plan_leaves_all_its_members(sample, tmp_path):
    training = TrainingConfig(epochs=1, batch_size=128, num_ranks=1, ensemble=PLAN)
    request = FitRequest(sample.url, sample.spec, CONF, training, "latent", 3, str(tmp_path / "latent"))
    result = main.fit(request)
    model = saved.load(request.output_dir)[0]
    assert isinstance(model, Ensemble) and model.plan == PLAN and model.seed == 3
    first = {name: value[0] for name, value in model.state_dict().items()}
    assert any(not torch.equal(value[1], first[name]) for name, value in model.state_dict().items())
    other = dataclasses.replace(request, variant="backdoor", output_dir=str(tmp_path / "backdoor"))
    assert not isinstance(saved.load(main.fit(other).output_dir)[0], Ensemble)
    assert main.fit(FitRequest.from_json(request.to_json())).digest == result.digest
