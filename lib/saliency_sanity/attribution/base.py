"""The one gradient primitive, and the scope within which every attribution runs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from saliency_sanity._hashing import wrapped
from saliency_sanity.networks.attributes import without_inference

# Elements of one chunk of inputs: 8 pictures of 299 px on a CPU, 64 on a GPU. More does not run
# faster there, and less leaves cores idle. Results do not depend on it.
_CPU_ELEMENTS = 8 * 3 * 299 * 299
_GPU_ELEMENTS = 64 * 3 * 299 * 299


class Attribution(Protocol):
    """Anything that explains a logit: ``(model, x, target) -> map``.

    x ``[N, C, H, W]`` in the network's own scaling, target ``[N]`` int64; the map is
    ``[N, C, H, W]``, or ``[N, 1, H, W]``, without a graph.
    """

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor: ...  # noqa: D102


def passes(method: Attribution) -> int:
    """Backward passes ``method`` needs for an image; 1 where it does not say."""
    return getattr(method, "passes", 1)


@dataclass
class _Scope:
    model: nn.Module
    limit: int | None  # largest chunk known to fit; falls when memory runs out


_scope: ContextVar[_Scope | None] = ContextVar("attribution_scope", default=None)
_limit: ContextVar[int | None] = ContextVar("chunk_limit", default=None)


@contextmanager
def chunk_limit(images: int) -> Iterator[None]:
    """Let no forward pass within the block take more than ``images`` inputs.

    Raises ValueError unless ``images`` is at least 1.
    """
    if images < 1:
        raise ValueError(f"chunk limit {images} must be at least 1")
    token = _limit.set(images)
    try:
        yield
    finally:
        _limit.reset(token)


def chunk_size(x: Tensor) -> int:
    """How many inputs of the shape of ``x`` ``[N, C, H, W]`` go through the network at once."""
    scope = _scope.get()
    elements = _GPU_ELEMENTS if x.is_cuda else _CPU_ELEMENTS
    limits = [max(1, elements // max(1, x[0].numel())), _limit.get(), scope and scope.limit]
    return min(limit for limit in limits if limit)


def check_target(x: Tensor, target: Tensor) -> None:
    """Refuse a target that is no class for each image of ``x``; raises as ``check`` does."""
    if not isinstance(target, Tensor) or target.dtype != torch.int64:
        kind = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(f"target must be an int64 tensor, not {kind}; use torch.tensor([...])")
    if target.shape != x.shape[:1]:
        raise ValueError(
            f"target must be [{len(x)}], one class per image, not {tuple(target.shape)}"
        )
    if (target < 0).any():
        raise ValueError(f"target {target.min().item()} is out of range: classes start at 0")


def check(model: nn.Module, x: Tensor, target: Tensor) -> None:
    """Refuse inputs that break the contract, before anything is computed.

    Raises TypeError or ValueError that names the value and what would be valid.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a floating-point tensor, not {kind}; convert with x.float()")
    if x.ndim != 4 or not len(x):
        raise ValueError(f"x must be [N, C, H, W] with N >= 1, not {tuple(x.shape)}")
    check_target(x, target)
    parameter = next(model.parameters(), None)
    if parameter is not None:
        if parameter.dtype != x.dtype:
            raise TypeError(f"x is {x.dtype} but the model is {parameter.dtype}; convert one")
        if not parameter.device == x.device == target.device:
            raise ValueError(
                f"x on {x.device}, target on {target.device}, model on {parameter.device}: "
                "move all three to one device"
            )
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if bad.any():
        images = bad.nonzero().flatten()[:8].tolist()
        raise ValueError(f"x has NaN or infinite values in image(s) {images}")


def select(logits: Tensor, target: Tensor) -> Tensor:
    """The logit of each row's target, ``[N]``.

    Raises ValueError where the model did not return ``[N, K]`` or a target is not in [0, K).
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(target):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the model must return logits [{len(target)}, K], not {got}")
    classes = logits.shape[1]
    wrong = target[(target < 0) | (target >= classes)]
    if len(wrong):
        raise ValueError(f"target {wrong[0].item()} is out of range: valid are 0 to {classes - 1}")
    # A copy, since one made under inference mode cannot be saved for the backward pass.
    return logits.gather(1, target.clone()[:, None])[:, 0]


@contextmanager
def attributing(model: nn.Module, x: Tensor, target: Tensor) -> Iterator[None]:
    """Check the inputs and hold the model still: evaluation mode, no parameter gradients.

    Every module's training flag and every parameter's ``requires_grad`` come back as they were,
    after an exception too. Nested use, as in compositions, costs nothing.
    """
    scope = _scope.get()
    if scope is not None and scope.model is model:
        yield
        return
    check(model, x, target)
    training = [module for module in model.modules() if module.training]
    differentiable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    token = _scope.set(_Scope(model, None))
    try:
        for module in training:
            module.training = False
        for parameter in differentiable:
            parameter.requires_grad_(False)
        with _uncompiled(model), without_inference(model):
            yield
    finally:
        _scope.reset(token)
        for module in training:
            module.training = True
        for parameter in differentiable:
            parameter.requires_grad_(True)


def _uncompiled(model: nn.Module) -> AbstractContextManager:
    """Run what ``torch.compile`` has made as it was written.

    Compiled code sees neither hooks nor the functions that a backward rule replaces.
    """
    compiled = any(
        wrapped(module) == "_orig_mod" or module._compiled_call_impl is not None
        for module in model.modules()
    )
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out."""
    # The CPU allocator has no exception class of its own.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def in_chunks(x: Tensor, target: Tensor, explain: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Concatenate ``explain(x_chunk, target_chunk)`` over chunks that fit in memory.

    A chunk that does not fit is halved and tried again; the smaller size is kept until the
    outermost attribution ends. Raises MemoryError when a single input does not fit.
    """
    parts, start = [], 0
    while start < len(x):
        size = min(chunk_size(x), len(x) - start)
        try:
            parts.append(explain(x[start : start + size], target[start : start + size]))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if size == 1:
                raise MemoryError(
                    f"one input of shape {tuple(x.shape[1:])} does not fit in the memory of "
                    f"{x.device}: use smaller images, a smaller network or another device"
                ) from error
            scope = _scope.get()
            if scope is None:
                raise
            scope.limit = size // 2
        else:
            start += size
            continue
        # Outside the handler, so that the failed pass's frames no longer hold its tensors.
        if x.is_cuda:
            torch.cuda.empty_cache()
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@contextmanager
def recording() -> Iterator[None]:
    """Record a graph even where the caller is in ``no_grad`` or ``inference_mode``."""
    leave = torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()
    with leave, torch.enable_grad():
        yield


class ShortenedPass(Protocol):
    """A forward pass that need not start at the input; see ``randomization.replay``."""

    def covers(self, model: nn.Module, part: Tensor) -> bool:
        """Whether it knows this network and these inputs."""
        ...

    def forward(self, part: Tensor) -> tuple[Tensor, Tensor, bool]:
        """As ``differentiable``."""
        ...


# Whoever knows a shorter way to the logits hooks in here; every gradient takes it.
shortened: ContextVar[ShortenedPass | None] = ContextVar("shortened", default=None)


def differentiable(model: nn.Module, part: Tensor) -> tuple[Tensor, Tensor, bool]:
    """A leaf with the values of ``part`` and its logits, and whether to retain their graph.

    Where a pass is ``shortened`` it may start in the middle; leaf and graph are then shared by all
    passes over ``part`` and must outlive each of them.
    """
    shorter = shortened.get()
    if shorter is not None and shorter.covers(model, part):
        return shorter.forward(part)
    leaf = leaf_of(part)
    return leaf, model(leaf), False


def leaf_of(part: Tensor) -> Tensor:
    """A copy that a graph can start from, in the layout in which convolutions are fast."""
    copy = part.detach().clone(memory_format=torch.channels_last)
    return copy.requires_grad_(torch.is_grad_enabled())


@dataclass(frozen=True)
class Gradient:
    """Gradient of the target's logit (before any softmax) with respect to the input.

    Map ``[N, C, H, W]`` in logit per unit of the network's scaling. Raises as ``check`` and
    ``select`` do. [simonyan2014deep]
    """

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""

        def explain(part: Tensor, wanted: Tensor) -> Tensor:
            with recording():
                leaf, logits, kept = differentiable(model, part)
                score = select(logits, wanted).sum()
                (gradient,) = torch.autograd.grad(score, leaf, retain_graph=kept)
            return gradient.contiguous()

        with attributing(model, x, target):
            return in_chunks(x, target, explain)
