"""In which arithmetic networks are run: exact, TF32 or bfloat16, and the same bits twice."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Any

import torch
from torch import Tensor

from saliency_sanity._errors import known

PRECISIONS = ("exact", "tf32", "bfloat16")

# From torch 2.9 on, precisions are kept by backend and operation, and one that says "none" takes
# that of "all" operations, then that of all backends. Older ways to set them, which are kept
# beside, go on to exist: reading these raises RuntimeError where the two disagree.
_FINE = hasattr(torch._C, "_get_fp32_precision_getter")
_WHOLE = (("generic", "all"), ("cuda", "all"), ("mkldnn", "all"))
_PARTS = tuple((backend, op) for backend in ("cuda", "mkldnn") for op in ("conv", "matmul", "rnn"))

# cuBLAS is given workspaces that its choice of a sum's order does not depend on.
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_AMPERE = 8  # the first compute capability that has TF32


def check_precision(precision: str, x: Tensor) -> None:
    """Refuse a precision that does not exist, or that pictures ``x`` cannot be explained in.

    Raises ValueError that lists the valid ones, or says what lacks.
    """
    if known("precision", precision, PRECISIONS) == "exact":
        return
    if x.dtype != torch.float32:
        raise ValueError(
            f"precision {precision!r} shortens float32, and the pictures are {x.dtype}; "
            "give 'exact', which computes in their type"
        )
    if precision == "tf32" and not _has_tf32(x.device):
        raise ValueError(
            f"precision 'tf32' is of NVIDIA's GPUs from Ampere on, which {str(x.device)!r} is "
            "none of; give 'exact' or 'bfloat16'"
        )


def _has_tf32(place: torch.device) -> bool:
    nvidia = place.type == "cuda" and torch.version.hip is None
    return nvidia and torch.cuda.get_device_capability(place)[0] >= _AMPERE


@contextmanager
def arithmetic(precision: str, place: torch.device) -> Iterator[None]:
    """Compute on a device in one of ``PRECISIONS``, the same bits twice; then all is as it was.

    ``exact``: float32 is float32, with TF32 and bfloat16 off in convolutions and products, and
    autocast off. ``tf32``: convolutions and products of float32 see 10 bits of mantissa, and add
    up in float32. ``bfloat16``: autocast, as networks are run in practice: convolutions and
    products see 7 bits, while weights, pictures, norms and maps stay float32. Casting the network
    itself would take a second one beside it, with other weights than those that were asked about.

    On a GPU cuDNN is deterministic and tries nothing out, and torch takes deterministic algorithms;
    of an operation that has none, torch says so in a warning with its name. Whatever was set
    before, in either of torch's two ways, comes back, after exceptions too.
    """
    kept = settings()
    with ExitStack() as stack:
        stack.callback(put, kept)
        _shorten("tf32" if precision == "tf32" else "ieee")
        if place.type == "cuda":
            stack.enter_context(_repeatable())
        if precision == "bfloat16":
            # What autocast keeps of weights would outlive a change of them.
            stack.enter_context(torch.autocast(place.type, torch.bfloat16, cache_enabled=False))
        elif torch.is_autocast_enabled(place.type):
            stack.enter_context(torch.autocast(place.type, enabled=False))
        yield


@contextmanager
def _repeatable() -> Iterator[None]:
    """Deterministic algorithms on a GPU; stricter settings stay."""
    cudnn, fill = torch.backends.cudnn, torch.utils.deterministic
    before = cudnn.deterministic, cudnn.benchmark, fill.fill_uninitialized_memory
    mode, workspace = torch.get_deterministic_debug_mode(), os.environ.get(_WORKSPACE)
    cudnn.deterministic, cudnn.benchmark = True, False
    if not mode:
        torch.use_deterministic_algorithms(True, warn_only=True)
        fill.fill_uninitialized_memory = False  # takes time, and nothing here reads such memory
    if workspace is None:
        os.environ[_WORKSPACE] = ":4096:8"
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, fill.fill_uninitialized_memory = before
        torch.set_deterministic_debug_mode(mode)
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)


def in_force(place: torch.device) -> dict[str, Any]:
    """What results on a device depend on, of torch's settings of this moment."""
    backend = "cuda" if place.type == "cuda" else "mkldnn"
    found: dict[str, Any] = {op: _short(backend, op) for op in ("conv", "matmul")}
    if torch.is_autocast_enabled(place.type):
        found["autocast"] = str(torch.get_autocast_dtype(place.type))
    if backend == "cuda":
        cudnn = torch.backends.cudnn
        found["cudnn"] = [cudnn.deterministic, cudnn.benchmark]
        found["deterministic"] = torch.are_deterministic_algorithms_enabled()
    return found


def is_exact(place: torch.device) -> bool:
    """Whether products and convolutions of float32 on a device are those of float32."""
    state = in_force(place)
    return (state["conv"], state["matmul"]) == ("ieee", "ieee")


def _short(backend: str, op: str) -> str:
    """What an operation makes of float32: ``ieee``, ``tf32`` or ``bf16``."""
    if _FINE:
        found = torch._C._get_fp32_precision_getter(backend, op)
        return "ieee" if found == "none" else found
    if (backend, op) == ("cuda", "conv"):
        return "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
    matmul = torch.get_float32_matmul_precision()
    shortened = {"high": "tf32", "medium": "bf16"} if op == "matmul" else {}
    return shortened.get(matmul, "ieee")


def settings() -> Mapping[Any, str]:
    """All of torch's settings of the precision of float32, for ``put``; they stay as they are."""
    _warned()
    return _read()


@cache
def _warned() -> None:
    """Let torch say to nobody, once, that its older ways are old: they are only kept in step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        put(_read())


def _read() -> Mapping[Any, str]:
    if not _FINE:
        return {"matmul": torch.get_float32_matmul_precision(), "cudnn": _old_cudnn()}
    found: dict[Any, str] = {}
    # One that says "none" gives its parent's when asked, so parents go first and say nothing then.
    for key in (*_WHOLE, *_PARTS):
        found[key] = torch._C._get_fp32_precision_getter(*key)
        if key in _WHOLE:
            torch._C._set_fp32_precision_setter(*key, "none")
    own = dict(found)
    _fine(dict.fromkeys(found, "ieee"))  # so that the old ways can be read, whatever they say
    found |= {"matmul": torch.get_float32_matmul_precision(), "cudnn": _old_cudnn()}
    _fine(own)
    return found


def put(kept: Mapping[Any, str]) -> None:
    """Put back what ``settings`` gave."""
    torch.set_float32_matmul_precision(kept["matmul"])
    torch.backends.cudnn.allow_tf32 = kept["cudnn"] == "tf32"
    # Last, for the old ways set these as well.
    _fine({key: value for key, value in kept.items() if isinstance(key, tuple)})


def _old_cudnn() -> str:
    with suppress(RuntimeError):  # which says that it disagrees with "ieee"
        return "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
    return "tf32"


def _shorten(precision: str) -> None:
    """Let a GPU compute so, and a CPU with all digits, so that both ways of asking agree."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if _FINE:
        whole = {key: precision if key[0] == "cuda" else "ieee" for key in (*_WHOLE, *_PARTS)}
        _fine(whole)


def _fine(wanted: Mapping[Any, str]) -> None:
    for (backend, op), value in wanted.items():
        torch._C._set_fp32_precision_setter(backend, op, value)
