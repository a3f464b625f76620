"""Which backend a GPU gets: Triton's once it has passed its check there, and eager's otherwise."""

import json
import logging
import warnings

import numpy as np
import pytest
import torch

from postnms.detectors import FasterRCNNConfig, build_detector
from postnms.errors import UserError
from postnms.ops import cluster_nms, clustering
from postnms.ops.clustering import eager, preferred_backend, reference, self_check
from tests.support.clustering import random_scene
from tests.support.detectors import BACKBONE, TWO

triton = pytest.importorskip(
    "postnms.ops.clustering.triton", reason="torch has no triton on this platform"
)
# The interpreter of Triton runs the kernels on the CPU.
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty folder of the user's cache, small scenes, and nothing known in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(self_check, "SIZES", (1, 70))
    monkeypatch.setattr(self_check, "THRESHOLDS", (0.5,))
    # The scene takes more than one block.
    monkeypatch.setattr(triton, "BLOCK", 64)
    passes = self_check.triton_passes
    passes.cache_clear()
    yield tmp_path
    passes.cache_clear()


@pytest.fixture
def calls(monkeypatch):
    """The sizes of the scenes that Triton computes."""
    sizes = []
    original = triton.cluster_nms

    def recorded(boxes, *rest):
        sizes.append(len(boxes))
        with np.errstate(over="ignore", invalid="ignore"):
            return original(boxes, *rest)

    monkeypatch.setattr(triton, "cluster_nms", recorded)
    return sizes


def test_the_check_runs_once_a_process_and_once_a_machine(calls, cache, caplog):
    with caplog.at_level(logging.INFO):
        assert self_check.triton_passes(DEVICE)
    assert set(calls) == {1, 70}
    assert "it passed its check in" in caplog.text
    count = len(calls)
    assert self_check.triton_passes(DEVICE)
    self_check.triton_passes.cache_clear()  # As in another process.
    assert self_check.triton_passes(DEVICE)
    assert len(calls) == count
    (note,) = (cache / "postnms").iterdir()
    assert torch.__version__ in json.loads(note.read_text())


@pytest.mark.parametrize("name", ["torch", "triton", "node", "kernels"])
def test_another_version_or_machine_is_checked_anew(name, monkeypatch, tmp_path):
    checks = []
    monkeypatch.setattr(self_check, "_failure", checks.append)  # It returns None: no failure.
    assert self_check.triton_passes(DEVICE)
    if name == "torch":
        monkeypatch.setattr(torch, "__version__", "99.0")
    elif name == "triton":
        monkeypatch.setattr(self_check, "version", lambda _: "99.0")
    elif name == "node":
        monkeypatch.setattr(self_check.platform, "node", lambda: "another")
    else:
        (tmp_path / "triton.py").write_text("changed")
        monkeypatch.setattr(self_check, "__file__", str(tmp_path / "self_check.py"))
    self_check.triton_passes.cache_clear()
    assert self_check.triton_passes(DEVICE)
    assert len(checks) == 2


def wrong(boxes, scores, groups, threshold):
    """The clusters of the reference, but a box is given to another key where there are several."""
    keys, assignment = reference.cluster_nms(boxes, scores, groups, threshold)
    assignment[keys[-1]] = 0
    return keys, assignment


def without_compiler(*scene):
    raise RuntimeError("Failed to find C compiler.")


@pytest.mark.parametrize(
    ("kernel", "word"),
    [
        (wrong, "Triton gives another result for 70 boxes of torch.float32"),
        (without_compiler, "Triton failed with RuntimeError: Failed to find C compiler"),
    ],
)
def test_a_failed_check_leaves_eager_with_a_word(kernel, word, monkeypatch, cache):
    monkeypatch.setattr(triton, "cluster_nms", kernel)
    with pytest.warns(RuntimeWarning, match=f"'eager' on {DEVICE}: {word}"):
        assert not self_check.triton_passes(DEVICE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not self_check.triton_passes(DEVICE)
    assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_is_no_obstacle(calls, cache, caplog):
    (cache / "postnms").write_text("a file")
    assert self_check.triton_passes(DEVICE)
    assert "the next process has to check Triton again" in caplog.text


def test_no_triton_is_eager_without_a_word(monkeypatch):
    monkeypatch.setattr(self_check, "HAS_TRITON", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not self_check.triton_passes(DEVICE)


@pytest.mark.parametrize(("passes", "backend"), [(True, "triton"), (False, "eager")])
def test_a_gpu_gets_triton_once_it_has_passed(passes, backend, monkeypatch):
    monkeypatch.setattr(self_check, "triton_passes", lambda device: passes)
    assert clustering._backend_of(torch.device("cuda")) == backend
    assert clustering._backend_of(torch.device("cpu")) == "cpu"


@pytest.fixture
def eager_calls(monkeypatch):
    count = []
    original = eager.cluster_nms
    monkeypatch.setattr(eager, "cluster_nms", lambda *args: count.append(1) or original(*args))
    return count


def test_a_preferred_backend_holds_for_calls_that_name_none(eager_calls):
    scene = random_scene(10)
    with preferred_backend("eager"):
        cluster_nms(*scene)
        with preferred_backend(None):
            cluster_nms(*scene)
        cluster_nms(*scene, backend="reference")
    cluster_nms(*scene)
    assert len(eager_calls) == 2


@torch.no_grad()
def test_a_detector_clusters_as_its_settings_say(eager_calls, monkeypatch):
    config = FasterRCNNConfig(backbone=BACKBONE, min_size=96, max_size=160, clustering="eager")
    detector = build_detector(config, None, 3).eval()
    detector(TWO)
    assert len(eager_calls) == 2  # The proposals, and the candidates.
    detector.trace(TWO)
    assert len(eager_calls) == 5  # The proposals of the trace's own candidates as well.
    monkeypatch.setattr(clustering, "_interprets_triton", lambda: False)
    detector.clustering = "triton"
    with pytest.raises(UserError, match="backend: 'triton' needs CUDA tensors"):
        detector(TWO)
