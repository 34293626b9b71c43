"""Who speaks for a night: looks at the gates of this night and of earlier ones. Real files, no Spark."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from almmta_spark import manifest, runner
from almmta_spark.config import Config
from almmta_spark.night_log import Claim

FIRST, SECOND, THIRD = "2026-01-15", "2026-01-16", "2026-01-17"


@pytest.fixture
def conf(tmp_path):
    return replace(Config(), warehouse=str(tmp_path / "warehouse"))


class Nights:
    """Stages as small as can be: training leaves a version, the gate lets those of `good` through, attribute notes who
    spoke."""

    def __init__(self, conf, good=()):
        self.conf, self.good, self.versions, self.dies = conf, set(good), {}, False

    def train(self, night):
        folder = Path(night.model_folder("latent"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.json").write_text(json.dumps({"digest": self.versions[night.ds]}))
        night.has_trained("latent")

    def gate(self, night):
        night.trained_model("latent")
        champion, version = night.champion("latent"), self.versions[night.ds]
        passed = version in self.good
        found = champion and json.loads(Path(champion[1], "model.json").read_text())["digest"]
        night.serve("latent", *((champion[0], found) if champion and not passed else (night.ds, version)), passed)

    def attribute(self, night):
        if self.dies:
            raise KeyboardInterrupt
        folder = night.served_model("latent")
        night.note(spoke=json.loads(Path(folder, "model.json").read_text())["digest"])

    def run(self, ds, version):
        """The stages that ran."""
        self.versions[ds] = version
        with Claim(None, self.conf, ds) as claim:
            stages = [runner.Night(None, self.conf, ds, name, claim) for name in ("train", "gate", "attribute")]
            if self.trained(ds) != version:
                Path(manifest.url(self.conf, ds, "train")).unlink(missing_ok=True)
            return [n.stage for n in stages if runner.run_if_changed(n, getattr(self, n.stage))]

    def trained(self, ds):
        return manifest.Place(None, self.conf).model(ds, "latent")

    def spoke(self, ds):
        return manifest.read(None, self.conf, ds, "attribute")["notes"]["spoke"]


def test_a_first_night_speaks_for_itself_whatever_the_gate_says(conf):
    nights = Nights(conf)
    nights.run(FIRST, "bad")
    assert nights.spoke(FIRST) == "bad"


def test_the_newest_that_passed_speaks_for_a_refused_night(conf):
    nights = Nights(conf, good=("a", "b"))
    for ds, version in ((FIRST, "a"), (SECOND, "b"), (THIRD, "bad")):
        nights.run(ds, version)
    assert [nights.spoke(ds) for ds in (FIRST, SECOND, THIRD)] == ["a", "b", "b"]
    assert runner.Night(None, conf, SECOND).is_champion("latent", "b")
    assert not runner.Night(None, conf, FIRST).is_champion("latent", "a")
    assert not runner.Night(None, conf, THIRD).is_champion("latent", "bad")


def test_what_was_refused_is_nobodys_champion(conf):
    nights = Nights(conf, good=("a",))
    for ds, version in ((FIRST, "a"), (SECOND, "bad"), (THIRD, "worse")):
        nights.run(ds, version)
    assert (nights.spoke(SECOND), nights.spoke(THIRD)) == ("a", "a")


def test_an_older_night_run_again_has_the_champion_that_it_had(conf):
    nights = Nights(conf, good=("a", "c"))
    for ds, version in ((FIRST, "a"), (SECOND, "bad"), (THIRD, "c")):
        nights.run(ds, version)
    assert nights.run(SECOND, "bad") == [] and nights.spoke(SECOND) == "a"
    assert nights.run(SECOND, "worse") == ["train", "gate"] and nights.spoke(SECOND) == "a"


def test_a_run_killed_after_the_gate_goes_on_as_if_nothing_had_been(conf):
    nights = Nights(conf, good=("a",))
    nights.run(FIRST, "a")
    nights.dies = True
    with pytest.raises(KeyboardInterrupt):
        nights.run(SECOND, "bad")
    nights.dies = False
    assert nights.run(SECOND, "bad") == ["attribute"] and nights.spoke(SECOND) == "a"


def test_another_champion_is_a_reason_to_judge_again(conf):
    nights = Nights(conf, good=("a", "again"))
    nights.run(FIRST, "a")
    nights.run(SECOND, "bad")
    nights.run(FIRST, "again")
    assert nights.run(SECOND, "bad") == ["gate", "attribute"] and nights.spoke(SECOND) == "again"


def test_a_champion_that_was_trained_again_and_not_judged_again_is_none(conf):
    nights = Nights(conf, good=("a", "b"))
    nights.run(FIRST, "a")
    nights.run(SECOND, "b")
    Path(manifest.model_folder(conf, SECOND, "latent"), "model.json").write_text(json.dumps({"digest": "other"}))
    nights.run(THIRD, "bad")
    assert nights.spoke(THIRD) == "a"


def test_a_model_trained_again_after_the_gate_does_not_speak(conf):
    nights = Nights(conf, good=("a",))
    nights.run(FIRST, "a")
    Path(manifest.model_folder(conf, FIRST, "latent"), "model.json").write_text(json.dumps({"digest": "other"}))
    with pytest.raises(ValueError, match=r"has named model latent a of ds=2026-01-15, and there is now other: .* gate"):
        runner.Night(None, conf, FIRST, "attribute").served_model("latent")


def test_a_study_without_a_gate_has_what_it_trained(conf):
    nights = Nights(conf)
    nights.versions[FIRST] = "a"
    nights.train(runner.Night(None, conf, FIRST, "train"))
    assert runner.Night(None, conf, FIRST).served_model("latent") == manifest.model_folder(conf, FIRST, "latent")
    with pytest.raises(ValueError, match=r"no model latent of ds=2026-01-16: run the job train"):
        runner.Night(None, conf, SECOND).served_model("latent")


def test_models_of_another_kind_have_champions_of_their_own(conf):
    nights = Nights(conf, good=("a",))
    nights.run(FIRST, "a")
    assert runner.Night(None, conf, SECOND).champion("paper") is None
    assert runner.Night(None, conf, SECOND).champion("latent")[0] == FIRST
