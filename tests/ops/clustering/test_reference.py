"""The reference is what the definition of ``cluster_nms`` says."""

from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.boxes import pairwise_iou
from postnms.ops import cluster_nms
from tests.support.clustering import grids


@settings(max_examples=200, deadline=None)
@given(scene=grids(), threshold=st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_the_reference_is_what_the_definition_says(scene, threshold):
    boxes, scores, groups = scene
    keys, assignment = cluster_nms(*scene, threshold, backend="reference")
    overlaps = (pairwise_iou(boxes, boxes) > threshold) & (groups[:, None] == groups)
    rank = {candidate: (-float(scores[candidate]), candidate) for candidate in range(len(scores))}
    assert keys.tolist() == sorted(keys.tolist(), key=rank.__getitem__)
    for candidate in range(len(scores)):
        earlier = [
            p
            for p, k in enumerate(keys.tolist())
            if rank[k] < rank[candidate] and overlaps[k, candidate]
        ]
        if candidate in keys.tolist():
            assert not earlier
            assert keys[assignment[candidate]] == candidate
        else:
            assert assignment[candidate] == earlier[0]
