"""What else than accuracy a validation may measure, by every engine."""

from __future__ import annotations

import json
import pathlib

import coordinator_samples
import pytest
import training_samples as samples
import two_devices

from keras_munet.core import qualities
from keras_munet.train import frozen_features
from keras_munet.train import trainer as trainer_lib

_FOLDER = pathlib.Path(__file__).resolve().parents[1] / "helpers"
# Of tasks with one label an image.
_MORE = sorted(
    set(qualities.QUALITIES.names()) - {"accuracy", "mean_average_precision"}
)


def children():
    """Two children, of which the second shares more."""
    return [samples.job(0, 1), samples.job(1, 1, ("embedding",))]


def scores_of(made):
    """Returns each child's score after each cycle."""
    return [child.scores for child in samples.train(children(), made)]


@pytest.mark.parametrize("quality", _MORE)
def test_a_path_has_the_quality_of_its_logits(quality):
    made = samples.trainer(quality=quality)
    parts = samples.job(
        0,
        1,
        tuple(part.spec.name for part in samples.job(0, 1).components[:-1]),
    ).components
    path = frozen_features.FrozenPath(parts, 16, False)
    data = samples.data(num_validation=37)
    found = made.evaluate(parts, data, trainer_lib.QUALITY, 16)
    logits, labels = made.logits(path, data, "validation")
    assert logits.shape == (37, samples.NUM_CLASSES)
    assert found == pytest.approx(
        qualities.measure_quality(quality, logits, labels), abs=1e-5
    )


@pytest.mark.slow
def test_two_replicas_score_as_one_cpu_does(tmp_path):
    code = (
        two_devices.MAKE + "import json, sys\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "import training_samples as samples, test_quality as t\n"
        "found = {q: t.scores_of(samples.trainer('mirrored', quality=q))\n"
        "         for q in ('log_loss', 'macro_f1')}\n"
        "open(sys.argv[1], 'w').write(json.dumps(found))\n"
    )
    out = tmp_path / "scores.json"
    two_devices.run(_FOLDER, code, str(out), str(pathlib.Path(__file__).parent))
    found = json.loads(out.read_text())
    wanted = scores_of(samples.trainer(quality="log_loss"))
    assert len({score for child in wanted for score in child}) > 1
    for child, expected in zip(found["log_loss"], wanted, strict=True):
        assert child == pytest.approx(expected, abs=1e-3)
    wanted = scores_of(samples.trainer(quality="macro_f1"))
    for child, expected in zip(found["macro_f1"], wanted, strict=True):
        assert child == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("quality", ["auc", "log_loss"])
def test_a_coordinator_s_workers_train_the_same_children(quality):
    away = coordinator_samples.trainer(quality=quality)
    alone = samples.train(children(), samples.trainer(quality=quality))
    sent = samples.train(children(), away)
    for one, other in zip(alone, sent, strict=True):
        assert other.scores == pytest.approx(one.scores, abs=1e-4)
        assert len(set(other.scores)) == 2
        assert other.quality == max(other.scores)
        samples.assert_close(one, other, atol=1e-4)
