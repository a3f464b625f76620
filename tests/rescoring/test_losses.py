"""The losses of the first steps, from the outputs of the untrained networks."""

import math

import pytest
import torch

from postnms.data.targets import group_by_image, targets_of
from postnms.rescoring import (
    ContextualConfig,
    RelationConfig,
    SCEConfig,
    by_image,
    contextual_training,
    relation_training,
    sce_training,
)
from postnms.rescoring.by_image import Material
from postnms.rescoring.quality import quality_of
from postnms.rescoring.relation_training import boxes_to_keep
from postnms.rescoring.sce_labels import best_of_objects, kept_by_nms
from postnms.rescoring.steps import Epoch
from postnms.structures import take
from tests.support.rescoring import duplicates, sizes, tiny_rescorer


@pytest.fixture
def losses(monkeypatch):
    """The losses that training takes a step down, while no step is taken."""
    seen = []
    for module in (contextual_training, by_image):
        monkeypatch.setattr(module, "take_step", lambda _, loss: seen.append(float(loss.detach())))
    return seen


def test_contextual_the_squared_error_of_every_detection(tmp_path, losses):
    file, truth = duplicates(tmp_path, images=3)
    network = tiny_rescorer().network
    config = ContextualConfig(epochs=1, batch_size=3)
    generator = torch.Generator().manual_seed(0)
    material = Material(file, truth, sizes(3))
    figures = contextual_training.train_contextual(
        network, material, config, generator, lambda _: None
    )
    detections = network.suppressed(file.part(0, 3)[0])
    targets = targets_of(truth, file.image_ids, group_by_image(truth))
    quality, _ = quality_of(detections, targets)
    with torch.no_grad():
        scores = network.logits(detections, sizes(3)).sigmoid()
    assert losses == [pytest.approx(float(((scores - quality) ** 2).mean()), rel=1e-5)]
    assert figures == {"loss": pytest.approx(losses[0])}


def test_sce_weighted_cross_entropy_of_both_stages(tmp_path, losses):
    file, truth = duplicates(tmp_path, images=1)
    network, config = tiny_rescorer("sce").network, SCEConfig(epochs=1)
    generator = torch.Generator().manual_seed(0)
    material = Material(file, truth, sizes(1))
    figures = sce_training.train_sce(network, material, config, generator, lambda _: None)
    candidates, _ = file.part(0, 1)
    targets = targets_of(truth, file.image_ids, group_by_image(truth))
    scores, wanted, right = candidates.scores, [], []
    with torch.no_grad():
        for number, weight in enumerate((4, 2)):
            sequences = network.sequences(candidates, scores)
            if number:
                labels, _ = best_of_objects(candidates, sequences, targets, 0.5)
            else:
                labels = kept_by_nms(candidates, sequences, 0.5)
            factors = network.logits(number, candidates, scores, sizes(1), sequences).sigmoid()
            terms = [
                -weight * math.log(factor) if label else -math.log(1 - factor)
                for factor, label in zip(factors.tolist(), labels.tolist(), strict=True)
            ]
            wanted.append(sum(terms) / len(terms))
            right.append(float(((factors > 0.5) == labels).double().mean()))
            scores = network.scores_after(number, candidates, scores, sizes(1))
    assert losses == pytest.approx(wanted, rel=1e-5)
    assert figures == {
        "stage_1_loss": pytest.approx(losses[0]),
        "stage_1_right": pytest.approx(right[0]),
        "stage_2_loss": pytest.approx(losses[1]),
        "stage_2_right": pytest.approx(right[1]),
    }
    assert 0 < right[0] < 1


def test_relation_weighted_cross_entropy_of_score_times_factor(tmp_path, losses):
    file, truth = duplicates(tmp_path, images=1)
    network, config = tiny_rescorer("relation").network, RelationConfig(epochs=1)
    generator = torch.Generator().manual_seed(0)
    material = Material(file, truth, sizes(1))
    figures = relation_training.train_relation(network, material, config, generator, lambda _: None)
    candidates, _ = file.part(0, 1)
    targets = targets_of(truth, file.image_ids, group_by_image(truth))
    sequences = network.sequences(candidates)
    looked_at = take(candidates, sequences.rows)
    wanted, _ = boxes_to_keep(looked_at, targets, config.thresholds)
    with torch.no_grad():
        factors = network.logits(looked_at, sequences).sigmoid()
    terms = [
        -4 * math.log(score * factor) if label else -math.log(1 - score * factor)
        for score, row, labels in zip(looked_at.scores.tolist(), factors, wanted, strict=True)
        for factor, label in zip(row.tolist(), labels.tolist(), strict=True)
    ]
    assert losses == pytest.approx([sum(terms) / len(terms)], rel=1e-5)
    right = float(((factors > 0.5) == wanted).double().mean())
    assert figures == {"loss": pytest.approx(losses[0]), "right": pytest.approx(right)}
    assert wanted.any()


def test_figures_are_those_of_the_last_epoch_over_all_boxes():
    """An image counts as much as it has boxes."""
    sums = Epoch()
    sums.add(torch.tensor(0.5), 1, 1)
    sums.add(torch.tensor(2.0), 3)
    assert (sums.judged, sums.mean_loss, sums.right) == (4, 6.5 / 4, 1)


def test_each_epoch_has_its_own_figures(tmp_path, losses):
    file, truth = duplicates(tmp_path, images=4)
    network, config = tiny_rescorer("sce").network, SCEConfig(epochs=3)
    generator = torch.Generator().manual_seed(0)
    material = Material(file, truth, sizes(4))
    figures = sce_training.train_sce(network, material, config, generator, lambda _: None)
    # No step is taken, so every epoch gives the same. All images have six boxes.
    assert figures["stage_1_loss"] == pytest.approx(sum(losses[:4]) / 4)
    assert figures["stage_2_loss"] == pytest.approx(sum(losses[-4:]) / 4)
