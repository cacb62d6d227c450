"""The precision of a run: off for the run, whatever was set before, and back afterwards."""

import os
from contextlib import suppress

import pytest
import torch
from saliency_sanity import _arithmetic
from saliency_sanity._arithmetic import (
    PRECISIONS,
    arithmetic,
    check_precision,
    in_force,
    is_exact,
    put,
    settings,
)
from saliency_sanity.contract.snapshot import Snapshot
from saliency_sanity.networks.forward import rounding
from torch import nn

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FINE = hasattr(torch.backends.cuda.matmul, "fp32_precision")
new = pytest.mark.skipif(not FINE, reason="torch before 2.9 has one way to set precisions")


def old_matmul():
    torch.set_float32_matmul_precision("medium")


def old_cudnn():
    torch.backends.cudnn.allow_tf32 = False


def old_cublas():
    torch.backends.cuda.matmul.allow_tf32 = True


def one_product():
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def one_convolution():
    torch.backends.cudnn.conv.fp32_precision = "ieee"


def all_backends():
    torch.backends.fp32_precision = "tf32"


def on_cpus():
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


def mixed():
    old_matmul()
    all_backends()
    one_convolution()


BEFORE = [
    lambda: None,
    old_matmul,
    old_cudnn,
    old_cublas,
    *(pytest.param(one, marks=new) for one in (one_product, one_convolution, all_backends)),
    *(pytest.param(one, marks=new) for one in (on_cpus, mixed)),
]
# Torch has no autocast for a GPU that is not there.
RUNS = [(one, CPU) for one in PRECISIONS] + [
    (one, CUDA) for one in PRECISIONS if one != "bfloat16" or torch.cuda.is_available()
]


def asked():
    """What either way of asking says, and whether it refuses."""

    def said(ask):
        try:
            return ask()
        except RuntimeError:
            return RuntimeError

    asks = {
        "matmul": torch.get_float32_matmul_precision,
        "cublas": lambda: torch.backends.cuda.matmul.allow_tf32,
        "cudnn": lambda: torch.backends.cudnn.allow_tf32,
        "deterministic": torch.get_deterministic_debug_mode,
        "kernels": lambda: (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "fill": lambda: torch.utils.deterministic.fill_uninitialized_memory,
        "workspace": lambda: os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "autocast": lambda: torch.is_autocast_enabled("cpu"),
    }
    if FINE:
        backends = torch.backends
        asks |= {
            "all": lambda: backends.fp32_precision,
            "product": lambda: backends.cuda.matmul.fp32_precision,
            "convolution": lambda: backends.cudnn.conv.fp32_precision,
            "recurrence": lambda: backends.cudnn.rnn.fp32_precision,
            "oneDNN": lambda: backends.mkldnn.matmul.fp32_precision,
            "oneDNN's convolution": lambda: backends.mkldnn.conv.fp32_precision,
        }
    return {name: said(ask) for name, ask in asks.items()}


@pytest.fixture(autouse=True)
def afterwards():
    kept = settings()
    yield
    put(kept)


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(("precision", "place"), RUNS)
def test_a_run_has_its_precision_and_leaves_none(precision, place, before):
    before()
    known = asked()
    with suppress(KeyError), arithmetic(precision, place):
        assert is_exact(place) == (precision != "tf32" or place.type == "cpu")
        assert is_exact(CPU)
        assert torch.is_autocast_enabled(place.type) == (precision == "bfloat16")
        # Both ways of asking agree, so that nobody who asks within a run is refused.
        assert RuntimeError not in asked().values()
        with arithmetic("exact", place):
            assert is_exact(place)
            assert not torch.is_autocast_enabled(place.type)
        assert is_exact(place) == (precision != "tf32" or place.type == "cpu")
        if place.type == "cuda":
            assert in_force(place)["deterministic"]
            assert in_force(place)["cudnn"] == [True, False]
        raise KeyError
    assert asked() == known


@new
def test_what_takes_its_parents_precision_does_so_again():
    torch.backends.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "none"
    with arithmetic("tf32", CUDA):
        pass
    torch.backends.fp32_precision = "tf32"
    assert torch.backends.mkldnn.matmul.fp32_precision == "tf32"
    with arithmetic("exact", CPU):
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    torch.backends.fp32_precision = "ieee"
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"


@pytest.mark.parametrize("before", BEFORE[:4])
def test_a_torch_that_knows_the_old_way_alone(monkeypatch, before):
    monkeypatch.setattr(_arithmetic, "_FINE", False)
    before()
    known = asked()
    with arithmetic("tf32", CUDA):
        assert in_force(CUDA)["conv"] == in_force(CUDA)["matmul"] == "tf32"
    with arithmetic("exact", CPU):
        assert is_exact(CPU)
        assert is_exact(CUDA)
    old = ("matmul", "cublas", "cudnn", "deterministic", "kernels", "workspace")
    assert {key: asked()[key] for key in old} == {key: known[key] for key in old}


def test_what_the_caller_has_set_more_strictly_stays():
    torch.set_deterministic_debug_mode("error")
    try:
        with arithmetic("exact", CUDA):
            assert torch.get_deterministic_debug_mode() == 2
            assert torch.utils.deterministic.fill_uninitialized_memory
        assert torch.get_deterministic_debug_mode() == 2
    finally:
        torch.set_deterministic_debug_mode("default")


@pytest.mark.parametrize("before", BEFORE)
def test_no_part_of_the_library_is_refused_what_it_asks(before):
    before()
    net = nn.Linear(2, 2)
    assert rounding(net, net(torch.ones(1, 2))) >= torch.finfo(torch.float32).eps ** 0.5
    snapshot, known = Snapshot(net), asked()
    with arithmetic("tf32", CUDA):
        pass
    assert not snapshot.restore()
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = known["cudnn"] is not True
    assert snapshot.restore() == {"flags": ["torch's precision of products"]}
    assert asked() == known


def test_what_a_device_or_type_cannot_do_is_refused():
    with pytest.raises(ValueError, match=r"precision 'tf16'.*Valid: exact, tf32, bfloat16"):
        check_precision("tf16", torch.ones(1))
    with pytest.raises(ValueError, match=r"Ampere.*'cpu'.*'exact' or 'bfloat16'"):
        check_precision("tf32", torch.ones(1))
    for precision in ("tf32", "bfloat16"):
        with pytest.raises(ValueError, match=r"float64; give 'exact'"):
            check_precision(precision, torch.ones(1, dtype=torch.float64))
    for dtype in (torch.float16, torch.float32, torch.float64):
        check_precision("exact", torch.ones(1, dtype=dtype))
    check_precision("bfloat16", torch.ones(1))
