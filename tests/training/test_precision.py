"""The precision of training on devices with and without instructions for bfloat16."""

import json
import logging

import pytest
import torch

from postnms.runs.folder import RunFolder
from postnms.training import precision
from postnms.training.precision import has_bfloat16, precision_on, warn_if_slow
from tests.support.runs import run, tiny

CPU = torch.device("cpu")


@pytest.fixture
def processor(monkeypatch):
    """Say what the processor can do, as torch tells it."""

    def able(**capabilities):
        told = {"avx2": True, "cpu_name": "bf16 in a name", **capabilities}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
        precision._processor_has_bfloat16.cache_clear()

    yield able
    precision._processor_has_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({}, "float32"),
    ],
)
def test_auto_is_bfloat16_only_where_the_processor_has_it(processor, capabilities, expected):
    processor(**capabilities)
    assert precision_on(CPU, "auto") == expected
    assert [precision_on(CPU, asked) for asked in ("float32", "bf16")] == ["float32", "bf16"]


@pytest.mark.parametrize("has", [True, False])
def test_older_releases_of_torch_are_asked_by_other_names(processor, monkeypatch, has):
    processor()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has, raising=False)
    assert has_bfloat16(CPU) == has


def test_a_slow_precision_is_told(processor, caplog):
    processor(avx512_bf16=False)
    with caplog.at_level(logging.WARNING):
        warn_if_slow(CPU, "float32")
        assert caplog.text == ""
        warn_if_slow(CPU, "bf16")
    assert "this processor has no instructions for bfloat16" in caplog.text
    processor(avx512_bf16=True)
    caplog.clear()
    warn_if_slow(CPU, "bf16")
    assert caplog.text == ""


@pytest.mark.parametrize("has", [True, False])
def test_a_run_trains_in_the_precision_of_the_device_and_says_so(
    tmp_path, processor, before_steps, has
):
    processor(avx512_bf16=has)
    dtypes = []

    def watch(number, model):
        layer = next(part for part in model.modules() if isinstance(part, torch.nn.Conv2d))
        layer.register_forward_hook(lambda layer, given, made: dtypes.append(made.dtype))

    before_steps(watch)
    run(tmp_path, tiny("training.iterations=1", "training.precision=auto"))
    assert dtypes[0] == (torch.bfloat16 if has else torch.float32)
    about = json.loads(RunFolder(tmp_path).provenance.read_text())
    assert about["precision"] == ("bf16" if has else "float32")
