"""Random weights in place of learned ones: three choices, made explicit, and nothing left over."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrize import ParametrizationList

from saliency_sanity._errors import unknown
from saliency_sanity._hashing import bare_name, unwrapped
from saliency_sanity._random import generator, normal, seeded
from saliency_sanity.attribution.base import attributing
from saliency_sanity.networks.classifier import network_of
from saliency_sanity.networks.forward import logits_of
from saliency_sanity.randomization.blocks import Block
from saliency_sanity.randomization.caches import Caches
from saliency_sanity.randomization.derived import bare, consequences, derived, originals

SCHEMES = ("initializer", "truncated_normal", "moments", "permutation")
BATCH_NORM = ("keep", "reset", "recalibrate")
EXPLAINED = ("argmax", "fixed", "label")

# What the reference code does. [adebayo2018code]
PRESETS = {"reference-code": {"scheme": "initializer", "batch_norm": "keep", "explained": "argmax"}}

CALIBRATION = 64  # images at most whose statistics a batch norm is recalibrated with


@dataclass(frozen=True)
class Randomization:
    """How a block's tensors are drawn, and what becomes of batch-norm statistics.

    ``scheme``: ``initializer`` draws as the untrained architecture does; ``truncated_normal`` with
    mean 0 and ``std``, cut at two ``std``, norm scales 1; ``moments`` from a normal with each
    tensor's own mean and standard deviation; ``permutation`` shuffles each tensor's values. The
    last two leave a tensor of equal values as it is: there is nothing in it to randomize.
    ``batch_norm``: running statistics are kept (the reference code), reset to 0 and 1, or
    recalibrated on the explained images. Scale and shift of norms are weights and follow the
    scheme. Raises ValueError for other words or a std that is not positive. [adebayo2018sanity],
    appendix B; [adebayo2018code].
    """

    scheme: str = "initializer"
    batch_norm: str = "keep"
    std: float = 0.01

    def __post_init__(self):
        if self.scheme not in SCHEMES:
            raise ValueError(unknown("randomization scheme", self.scheme, SCHEMES))
        if self.batch_norm not in BATCH_NORM:
            raise ValueError(unknown("batch-norm policy", self.batch_norm, BATCH_NORM))
        if not self.std > 0:
            raise ValueError(f"std {self.std} must be positive")

    def __str__(self) -> str:
        std = f" with std {self.std:g}" if self.scheme == "truncated_normal" else ""
        return f"{self.scheme}{std}, batch norm {self.batch_norm}"

    def draw(self, model: nn.Module, blocks: Sequence[Block], seed: int) -> dict[str, Tensor]:
        """Random values for every tensor of ``blocks`` that randomization replaces, by name.

        The network must be as it was trained. Every tensor has a generator of its own: its values
        depend on ``seed`` and its name alone. What a derived weight needs beside, as the vectors of
        a spectral norm, follows from what is drawn. Raises ValueError for a tensor that no rule of
        the architecture initialises (scheme ``initializer`` on a network that load_model did not
        make), and for integers, which can only be shuffled.
        """
        network = network_of(model)
        tensors = dict(network.named_parameters()) | dict(network.named_buffers())
        drawn: dict[str, Tensor] = {}
        names = [name for block in blocks for name in block.parameters]
        built = self.scheme == "initializer" and getattr(unwrapped(model), "untrained", None)
        for name in () if built or self.scheme == "permutation" else names:
            if not tensors[name].is_floating_point():
                raise ValueError(
                    f"parameter {name} holds {tensors[name].dtype}, for which the scheme "
                    f"{self.scheme!r} has no random values; register it as a buffer if nothing is "
                    "learned in it, or use the scheme 'permutation'"
                )
        if self.scheme == "initializer":
            source = _untrained(model, network, names, seed)
            names += [name for block in blocks for name in block.buffers if name in source]
            drawn = {name: source[name].to(tensors[name]) for name in names}
        else:
            norms = _norm_scales(network)
            for name in names:
                key = generator(seed, "randomization", self.scheme, bare_name(network, name))
                drawn[name] = self._values(tensors[name].detach(), name in norms, key)
        drawn |= self._derived(network, drawn, seed)
        if self.batch_norm == "reset":
            for module, path in _batch_norms(network):
                for kind, value in (("running_mean", 0.0), ("running_var", 1.0)):
                    if any(f"{path}.{kind}" in block.buffers for block in blocks):
                        drawn[f"{path}.{kind}"] = torch.full_like(getattr(module, kind), value)
        return drawn

    def _derived(
        self, network: nn.Module, drawn: dict[str, Tensor], seed: int
    ) -> dict[str, Tensor]:
        """What follows from the parameters that weights are computed of, by name."""
        found: dict[str, Tensor] = {}
        for path, module in network.named_modules():
            start = f"{path}." if path else ""
            for name in derived(module):
                of = _sources(start, name)
                own = {k.removeprefix(start): v for k, v in drawn.items() if k.startswith(of)}
                if own:
                    base = bare_name(network, f"{start}{name}.base")
                    key = generator(seed, "randomization", self.scheme, base)
                    drawing = None if self.scheme == "initializer" else key
                    more = consequences(module, name, own, drawing)
                    found |= {f"{start}{end}": value for end, value in more}
        return found

    def _values(self, now: Tensor, norm_scale: bool, key: torch.Generator) -> Tensor:
        if self.scheme == "permutation":
            while True:
                order = torch.randperm(now.numel(), generator=key, device="cpu").to(now.device)
                shuffled = now.reshape(-1)[order].reshape(now.shape)
                # Of two values every other order is the old one.
                if not torch.equal(shuffled, now) or _constant(now):
                    return shuffled
        if self.scheme == "moments":
            noise = normal(now.shape, key)
            return now.mean() + now.std(correction=0) * noise.to(now)
        if norm_scale:
            return torch.ones_like(now)
        noise = torch.empty(now.shape, dtype=torch.float32, device="cpu")
        nn.init.trunc_normal_(noise, std=self.std, a=-2 * self.std, b=2 * self.std, generator=key)
        return noise.to(now)


def _constant(tensor: Tensor) -> bool:
    return bool((tensor == tensor.flatten()[0]).all())


def _batch_norms(network: nn.Module) -> Iterator[tuple[_NormBase, str]]:
    for path, module in network.named_modules():
        if isinstance(module, _NormBase) and module.running_mean is not None:
            yield module, path


def _norm_scales(network: nn.Module) -> set[str]:
    """Names of scales of norms: weights of one dimension in modules that normalise."""
    return {
        f"{path}.weight".lstrip(".")
        for path, module in network.named_modules()
        if "norm" in type(module).__name__.lower() and getattr(module, "weight", None) is not None
    }


def _untrained(
    model: nn.Module, network: nn.Module, names: Sequence[str], seed: int
) -> dict[str, Tensor]:
    """Parameters of an untrained network of the same architecture."""
    build: Callable[[int], nn.Module] | None = getattr(unwrapped(model), "untrained", None)
    if build is not None:
        # Not the seed itself: an untrained network somebody explains may come from it.
        number = generator(seed, "randomization").initial_seed()
        # A builder that draws from the global generator gets one of its own.
        with seeded(number):
            made = network_of(build(number))
        tensors = dict(made.named_parameters()) | {
            name: buffer for name, buffer in made.named_buffers() if "parametrizations." in name
        }
        source = {bare_name(made, name): tensor for name, tensor in tensors.items()}
        for name in names:
            found, shape = source.get(bare_name(network, name)), network.get_parameter(name).shape
            if found is None or found.shape != shape:
                other = "no such parameter" if found is None else f"shape {tuple(found.shape)}"
                raise ValueError(
                    f"the untrained network has {other} for {name} {tuple(shape)}: untrained=... "
                    "must build a network of the same architecture"
                )
        known = [*names, *(name for name, _ in network.named_buffers())]
        return {n: source[b] for n in known if (b := bare_name(network, n)) in source}
    parameters: dict[str, Tensor] = {}
    for path, module in network.named_modules():
        start, where = f"{path}." if path else "", bare_name(network, path)
        own = {
            name: full
            for name, _ in module.named_parameters(recurse=False)
            if (full := f"{start}{name}") in names
        }
        computed = [
            name
            for name in derived(module)
            if any(full.startswith(_sources(start, name)) for full in names)
        ]
        if computed:
            parameters |= _reset_derived(module, start, where, own, computed, seed)
        # A parametrization has no initialiser of its own; the module that it serves has.
        elif own and not isinstance(module, ParametrizationList):
            parameters |= _reset(module, where, own, seed)
    return parameters


def _sources(start: str, name: str) -> tuple[str, str]:
    """How the names begin of what a weight is computed of, by torch's new way and its old one."""
    return f"{start}parametrizations.{name}.", f"{start}{name}_"


def _reset_derived(
    module: nn.Module, start: str, where: str, own: dict[str, str], computed: list[str], seed: int
) -> dict[str, Tensor]:
    """As ``_reset``, for a module with ``computed`` weights, drawn as if they were not."""
    twin = bare(module)
    wanted = [name for name, _ in twin.named_parameters(recurse=False)]
    fresh = _reset(twin, where, {n: f"{start}{n}" for n in wanted if n in (*own, *computed)}, seed)
    for name in computed:
        number = generator(seed, "randomization", where, name).initial_seed()
        found = originals(module, name, fresh.pop(f"{start}{name}"), number)
        if not found:
            raise ValueError(
                f"no initialiser is known for {start}{name}: {module.parametrizations[name][0]} "
                "computes it of others, which cannot be had from it. Use the scheme 'moments', "
                "'permutation' or 'truncated_normal', or wrap the network in a Classifier with "
                "untrained=..., a function that builds an untrained network from a seed"
            )
        fresh |= {f"{start}{key}": value for key, value in found.items()}
    return fresh


def _reset(module: nn.Module, path: str, own: dict[str, str], seed: int) -> dict[str, Tensor]:
    """What ``reset_parameters`` makes of a module's own parameters; the module stays as it is."""
    parameters = dict(module.named_parameters(recurse=False))
    buffers = dict(module.named_buffers(recurse=False))
    fresh = {
        name: nn.Parameter(torch.full_like(value, torch.nan, device="cpu"))
        for name, value in parameters.items()
    }
    # Stand-ins, since even to write the old values again would spoil a graph that needs them.
    stand_ins = fresh | {name: value.clone() for name, value in buffers.items()}
    reset = getattr(module, "reset_parameters", None)
    try:
        for name, value in stand_ins.items():
            setattr(module, name, value)
        if reset is not None:
            number = generator(seed, "randomization", path).initial_seed()
            with seeded(number), torch.no_grad():
                reset()
    finally:
        for name, value in (parameters | buffers).items():
            setattr(module, name, value)
    strays = [full for name, full in own.items() if fresh[name].isnan().any()]
    if strays:
        raise ValueError(
            f"no initialiser is known for {', '.join(strays)}: {type(module).__name__} has no "
            "reset_parameters that sets it. Use the scheme 'moments', 'permutation' or "
            "'truncated_normal', or wrap the network in a Classifier with untrained=..., a "
            "function that builds an untrained network from a seed"
        )
    return {full: fresh[name].detach() for name, full in own.items()}


class Randomizer:
    """Sets which blocks of a network are random; the context puts everything back.

    ``set(names, seed)`` makes exactly those blocks random and every other as it was trained;
    a block has the same random tensors in every order and stage of one seed. On leaving the
    context, also by an exception, the network is bit for bit what it was. ``calibration``
    ``[N, C, H, W]`` serves the policy ``recalibrate`` (its first 64 images are used), and tells
    what a network caches of its weights, which is forgotten at every change and comes back as it
    was. Entering the context raises as ``Caches`` does.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Sequence[Block],
        randomization: Randomization,
        calibration: Tensor | None = None,
    ):
        if randomization.batch_norm == "recalibrate" and calibration is None:
            raise ValueError("the batch-norm policy 'recalibrate' needs images: calibration=x")
        self.model = model
        self.blocks = {block.name: block for block in blocks}
        self.randomization = randomization
        self._calibration = calibration
        network = network_of(model)
        self._tensors = dict(network.named_parameters()) | dict(network.named_buffers())
        self._original: dict[str, Tensor] = {}
        self._drawn: dict[str, Tensor] = {}
        self._seed: int | None = None
        self._random: set[str] = set()

    def __enter__(self) -> "Randomizer":
        self._original = {name: value.detach().clone() for name, value in self._tensors.items()}
        x = self._calibration
        self._caches = Caches(self.model, None if x is None else x[:1])
        return self

    def __exit__(self, *_: object) -> None:
        self._copy(self._original)
        self._caches.restore()
        self._random, self._drawn, self._seed = set(), {}, None

    def set(self, names: Collection[str], seed: int = 0) -> None:
        """Make the named blocks random with ``seed``, all others original.

        Raises ValueError for an unknown block, or where a drawn tensor equals the learned one.
        """
        for name in names:
            if name not in self.blocks:
                raise ValueError(unknown("block", name, self.blocks))
        # Only what changes is written: a graph kept for the trained part stays valid.
        stale = self._random if seed != self._seed else self._random - set(names)
        for name in stale:
            self._copy({key: self._original[key] for key in self._scope(name)})
        if seed != self._seed and names:
            self._drawn = self.randomization.draw(self.model, list(self.blocks.values()), seed)
            self._seed = seed
        self._random -= stale
        fresh = [key for name in set(names) - self._random for key in self._scope(name)]
        self._replace({key: self._drawn[key] for key in fresh if key in self._drawn})
        self._random = set(names)
        self._caches.clear()
        if self.randomization.batch_norm == "recalibrate":
            self._recalibrate()
            self._caches.clear()

    def forget(self) -> None:
        """Empty what the network has worked out of its weights."""
        self._caches.clear()

    def _scope(self, name: str) -> tuple[str, ...]:
        return self.blocks[name].parameters + self.blocks[name].buffers

    def _replace(self, values: dict[str, Tensor]) -> None:
        stays = {name for name, value in values.items() if torch.equal(value, self._original[name])}
        for name in stays:
            old, tensor = self._original[name], self._tensors[name]
            # A constant in the place of the same constant, say a bias that was never trained, is
            # no failure: nothing was learned in it. Buffers follow from what is drawn.
            if not isinstance(tensor, nn.Parameter) or _constant(old):
                continue
            # Of what a weight is computed of, a part may be the same for every weight.
            place, computed, _ = name.rpartition("parametrizations.")
            weight = name.removeprefix(place + computed).partition(".")[0]
            if computed and any(
                key.startswith(f"{place}{computed}{weight}.") for key in values.keys() - stays
            ):
                continue
            raise ValueError(
                f"randomization left {name} {tuple(old.shape)} as it was: the drawn values are "
                f"the learned ones ({self.randomization}). Choose another scheme or seed"
            )
        self._copy(values)

    @torch.no_grad()
    def _copy(self, values: dict[str, Tensor]) -> None:
        if values:
            torch._foreach_copy_([self._tensors[name] for name in values], [*values.values()])

    def _recalibrate(self) -> None:
        """Give batch norms of random blocks the statistics of the calibration images."""
        inside = {key for name in self._random for key in self.blocks[name].buffers}
        norms = [
            module
            for module, path in _batch_norms(network_of(self.model))
            if f"{path}.running_mean" in inside
        ]
        if not norms:
            return
        x = self._calibration[:CALIBRATION]
        target = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        momenta = [norm.momentum for norm in norms]
        counts = [norm.num_batches_tracked.clone() for norm in norms]
        with attributing(self.model, x, target), torch.no_grad():
            try:
                for norm in norms:
                    # One batch, whose statistics become the running ones.
                    norm.momentum, norm.training = 1.0, True
                logits_of(self.model, x)
            finally:
                for norm, momentum, count in zip(norms, momenta, counts, strict=True):
                    norm.momentum, norm.training = momentum, False
                    norm.num_batches_tracked.copy_(count)


@contextmanager
def randomized(
    model: nn.Module,
    blocks: Sequence[Block],
    randomization: Randomization | None = None,
    *,
    seed: int = 0,
    calibration: Tensor | None = None,
) -> Iterator[nn.Module]:
    """Give ``model`` with all of ``blocks`` random; outside the block it is as it was.

    Raises as ``Randomization`` and ``Randomizer`` do.
    """
    with Randomizer(model, blocks, randomization or Randomization(), calibration) as randomizer:
        randomizer.set([block.name for block in blocks], seed)
        yield model
