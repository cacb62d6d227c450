"""A method of another library, made to keep the contract of methods."""

import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, metadata
from inspect import Parameter, signature
from io import StringIO
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from saliency_sanity._errors import NotApplicable, unknown
from saliency_sanity._extras import need
from saliency_sanity._hashing import digest, unwrapped
from saliency_sanity.attribution.base import attributing, logits, recording, select
from saliency_sanity.contract.snapshot import Snapshot
from saliency_sanity.networks.classifier import scaling_of, submodule
from saliency_sanity.networks.compat import ensure_torchvision
from saliency_sanity.networks.forward import laid_out, logits_in, manner, name_of, own_draws
from saliency_sanity.peers.trace import Trace

# Parameters that can be given by name.
_KINDS = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
# What any of them may say of a network, or of the precision in force.
_REFUSALS = (
    (TypeError, "unsupported ScalarType BFloat16"),
    (RuntimeError, "support the deepcopy protocol"),
    (TypeError, "cannot pickle"),
)
_GREYS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Array:
    """A tensor among parameters; what is shown of it, and compared, is its shape and a digest."""

    values: Tensor = field(repr=False, compare=False)
    shape: tuple[int, ...]
    digest: str


class Logits(nn.Module):
    """The network as a peer is handed it: logits ``[N, K]``, or ``[N, 1]`` of ``only`` one class.

    Pictures go through one by one where those of a batch have other logits. Hooks on the model
    itself see all passes, as what shows progress expects. ``copied`` is for a library that writes
    on weights: graphs that a caller has kept would not survive it.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, only: int | None = None, *, copied: bool = False
    ):
        super().__init__()
        self.network = deepcopy(unwrapped(model)) if copied else unwrapped(model)
        self.only = slice(None) if only is None else slice(only, only + 1)
        self.alone = manner(model, x).alone
        self.training = False

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        parts = x.split(1) if self.alone else [x]
        # Copies, since the network may work in place on its input.
        found = [logits_in(self.network(part.clone()), len(part)) for part in parts]
        return (found[0] if len(found) == 1 else torch.cat(found))[:, self.only]


@dataclass(frozen=True)
class Adapter:
    """A method of another library as an attribution; one class for each library.

    ``parameters`` are the library's own, as far as they were given, with its names; ``layer`` is a
    module path where the method asks for one, None the classifier's own. ``seed`` is what the
    global generators are seeded with for each picture; they come back as they were. Pictures are
    explained one at a time, each by an object of its own of the library. The network comes back as
    it was, after an exception too. Maps are ``[N, C, H, W]`` or ``[N, 1, H, W]``, as the method
    has it. Raises ValueError for a layer that the network lacks, and NotApplicable where it is the
    network that the method cannot explain.
    """

    method: str
    version: str
    parameters: tuple[tuple[str, Any], ...] = ()
    layer: str | None = None
    seed: int = 0

    library: ClassVar[str]
    # Errors of the library's that say that a network is none for it: their type and words in them.
    refusals: ClassVar[tuple[tuple[type[Exception], str], ...]] = ()
    layered: ClassVar[frozenset[str]] = frozenset()

    @property
    def name(self) -> str:
        """The name it is resolved by."""
        return f"{self.library}:{self.method}"

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Explain ``target`` for ``x``."""
        with attributing(model, x, target):
            laid_out(model, x[:1])
            select(logits(model, x), target)
            network = unwrapped(model)
            # Torch's own mark of a module with hooks stays when these are gone.
            marks = [(m, m._is_full_backward_hook) for m in network.modules()]
            before, maps = Snapshot(network), []
            for image, wanted in zip(x.split(1), target.split(1), strict=True):
                try:
                    maps.append(self._one(model, image, int(wanted)))
                finally:
                    before.restore()
                    for module, mark in marks:
                        module._is_full_backward_hook = mark
        return torch.cat(maps)

    def explain(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """Explain one picture ``x`` ``[1, C, H, W]``, a leaf that wants a gradient."""
        raise NotImplementedError

    def notes(self, seen: Trace) -> Iterator[str]:
        """What the library is known to do otherwise than one would think; see ``peers.notes``."""
        raise NotImplementedError

    def _one(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        with _drawing(self.seed, x), recording(), _quiet(self.library):
            leaf = x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
            try:
                found = self.explain(model, leaf, target)
            except Exception as error:
                known = (*self.refusals, *_REFUSALS)
                if any(isinstance(error, kind) and text in str(error) for kind, text in known):
                    said = " ".join(str(error).split())
                    raise NotApplicable(
                        f"{self.name} cannot explain {name_of(model)}: {said}"
                    ) from error
                raise
            found = torch.as_tensor(found).detach().to(x.device, x.dtype)
        if found.shape not in (x.shape, (1, 1, *x.shape[2:])):
            raise NotApplicable(
                f"{self.name} gave {tuple(found.shape)} for a picture {tuple(x.shape)}"
            )
        if not found.isfinite().all():
            raise NotApplicable(
                f"{self.name} of {self.library} {self.version} gives NaN or infinite values for "
                f"{name_of(model)}"
            )
        return found.clone(memory_format=torch.contiguous_format)

    @property
    def given(self) -> dict[str, Any]:
        """The parameters by name."""
        return dict(self.parameters)

    def module(self, model: nn.Module) -> nn.Module:
        """The layer's module."""
        path = self.layer or getattr(unwrapped(model), "cam_layer", None)
        if path is None:
            raise NotApplicable(
                f"{self.name} needs a layer: {name_of(model)} has no default one; name a module "
                f"path, e.g. resolve({self.name!r}, layer='layer4')"
            )
        return submodule(model, path)

    def path(self, model: nn.Module) -> str | None:
        """The layer's module path; None where the method takes none."""
        wanted = self.method in self.layered
        return (self.layer or getattr(unwrapped(model), "cam_layer", None)) if wanted else None

    def background(self, model: nn.Module, x: Tensor, key: str) -> Tensor:
        """Pictures ``[B, C, H, W]`` to compare with: those given, or five greys.

        Numbers are pictures of one value in the network's scaling.
        """
        value = self.given.get(key)
        if isinstance(value, Array):
            found = value.values.to(x)
            return found if found.ndim == 4 else found[None]
        if value is None:
            scaling = scaling_of(model)
            if scaling is None:
                raise NotApplicable(
                    f"{self.name} compares with other pictures: {name_of(model)} is no Classifier, "
                    f"so that black and white are not known; give {key} as a tensor [B, C, H, W] "
                    "or as values in the network's scaling"
                )
            greys = x.new_tensor(_GREYS).view(-1, 1, 1, 1).expand(-1, x.shape[1], 1, 1)
            return scaling.to_network(greys).expand(-1, *x.shape[1:]).contiguous()
        values = value if isinstance(value, tuple) else (value,)
        return x.new_tensor(values).view(-1, 1, 1, 1).expand(-1, *x.shape[1:]).contiguous()


def build(
    kind: type[Adapter],
    method: str,
    parameters: Mapping[str, Any],
    *,
    calls: Iterable[Callable],
    left_out: Iterable[str],
    more: Mapping[str, Any] = {},
) -> Adapter:
    """The adapter of a method with these parameters.

    Valid are those that ``calls`` of the library take, apart from ``left_out``, which the adapter
    gives, and those of ``more``, with a default each. Raises ValueError for others, for a value of
    which no record could be kept, and where one is missing that the library has no default for.
    """
    valid = {name: one for call in calls for name, one in taken(call).items()}
    valid = {name: one.default for name, one in valid.items() if name not in {*left_out}}
    valid |= more
    own = {"seed": 0} | ({"layer": None} if method in kind.layered else {})
    name = f"{kind.library}:{method}"
    for key in parameters:
        if key not in valid and key not in own:
            raise ValueError(unknown(f"parameter of {name}", key, [*valid, *own]))
    missing = [key for key, default in valid.items() if default is Parameter.empty]
    missing = [key for key in missing if key not in parameters]
    if missing:
        raise ValueError(f"{name} has no default for {', '.join(missing)}: give it to resolve")
    extra = {key: parameters[key] for key in own if key in parameters}
    given = {key: plain(name, key, parameters[key]) for key in valid if key in parameters}
    return kind(method, version(kind.library), tuple(given.items()), **extra)


def taken(call: Callable) -> Mapping[str, Any]:
    """The parameters a call of a library's takes by name."""
    return {key: one for key, one in signature(call).parameters.items() if one.kind in _KINDS}


def plain(name: str, key: str, value: Any) -> Any:
    """A value whose repr says all of it; raises ValueError where there is none."""
    if isinstance(value, Tensor | np.ndarray):
        values = torch.as_tensor(value).detach().clone()
        return Array(values, tuple(values.shape), digest(values))
    if isinstance(value, list | tuple):
        return tuple(plain(name, key, one) for one in value)
    if value is None or isinstance(value, bool | str | Array):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise ValueError(
        f"{key} of {name} is {type(value).__name__}: results are kept by what was given, so that "
        "it has to be a number, a text, a tensor, or a list of these"
    )


def ready(value: Any, x: Tensor) -> Any:
    """A parameter as the library takes it: tensors in the type of ``x`` and beside it."""
    if isinstance(value, Array):
        values = value.values.to(x.device)
        return values.to(x.dtype) if values.is_floating_point() else values
    return tuple(ready(one, x) for one in value) if isinstance(value, tuple) else value


def library(name: str, path: str, distribution: str | None = None) -> Any:
    """Import a module of a library; raises ImportError that says how to install it."""
    top = path.partition(".")[0]
    need(name, "peers", top)
    if "torchvision" in _requirements(distribution or top):
        ensure_torchvision()
    return import_module(path)


def one_of(name: str, kinds: Iterable[str], refused: Mapping[str, str]) -> str:
    """The method in ``library:method``; raises ValueError with the reason or the nearest names."""
    home, _, method = name.partition(":")
    if method in refused:
        raise ValueError(f"{name} is not adapted: {refused[method]}")
    if method not in kinds:
        raise ValueError(unknown(f"method of {home}", method, kinds))
    return method


_DISTRIBUTIONS = {"pytorch_grad_cam": "grad-cam"}


@cache
def version(library: str) -> str:
    """The version that is installed of a library."""
    return metadata.version(_DISTRIBUTIONS.get(library, library))


@cache
def _requirements(distribution: str) -> str:
    return " ".join(metadata.requires(_DISTRIBUTIONS.get(distribution, distribution)) or ())


@contextmanager
def _drawing(seed: int, x: Tensor) -> Iterator[None]:
    """Seed the generators that all code shares, and put them back."""
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with own_draws(x):
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            torch.default_generator.manual_seed(seed)
            if x.is_cuda:
                torch.cuda.manual_seed(seed)
            yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002


@contextmanager
def _quiet(library: str) -> Iterator[None]:
    """Without the library's own bars and warnings; ``notes`` has what is to be known."""
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.filterwarnings("ignore", module=rf"{library}\b")
        yield
