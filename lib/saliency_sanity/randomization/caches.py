"""What a network has worked out of its weights in one pass, and keeps for the next."""

from collections.abc import Iterator, MutableMapping, MutableSequence, MutableSet
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from saliency_sanity._attributes import Attributes, plain, tensors_in
from saliency_sanity._hashing import bare_name
from saliency_sanity.attribution.base import attributing, leaf_of, logits, recording
from saliency_sanity.networks.forward import logits_of
from saliency_sanity.randomization.derived import derived

_ROUNDING = 1e-4

Place = tuple[str, nn.Module, str]  # path, module, and name of an attribute


class Caches:
    """The caches of a network, empty or as they were found.

    Those are a network's that it empties itself when it is trained, and tensors in plain attributes
    that come again when they are taken away. ``x`` ``[1, C, H, W]`` is a picture to try that with.
    Raises ValueError for a cache that cannot be emptied, so that what a parameter is does not show
    in the logits, and where such tensors are found and there is no picture.
    """

    def __init__(self, model: nn.Module, x: Tensor | None):
        self._found = self._empty = Attributes(model, buffers=True)
        try:
            _train_and_back(model)
            places = list(_holding(model))
            if places:
                self._empty = Attributes(model, buffers=True)
                if x is None:
                    raise ValueError(
                        f"{', '.join(map(_said, places[:3]))} may be worked out of weights that "
                        "are to be random; whether it is, pictures tell: calibration=x"
                    )
                _empty(model, x, places)
            self._empty = Attributes(model, buffers=True)
        finally:
            self._found.restore()

    def clear(self) -> None:
        """Empty all caches: weights have changed."""
        self._empty.restore()

    def restore(self) -> None:
        """Put back what was found."""
        self._found.restore()


def _train_and_back(model: nn.Module) -> None:
    """Let modules with a ``train`` of their own do what they do when training begins."""
    if all(type(module).train is nn.Module.train for module in model.modules()):
        return
    flags = [(module, module.training) for module in model.modules()]
    tensors = [(t, t.detach().clone(), t.requires_grad) for t in model.parameters()]
    tensors += [(t, t.detach().clone(), t.requires_grad) for t in model.buffers()]
    try:
        model.train()
        model.eval()
    finally:
        for module, training in flags:
            module.training = training
        for tensor, value, wanted in tensors:
            tensor.requires_grad_(wanted)
            if not torch.equal(tensor, value):
                tensor.data.copy_(value)


def _holding(model: nn.Module) -> Iterator[Place]:
    """Attributes with tensors of no other name, and buffers that are in no state dict."""
    own = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # what it keeps, nobody sees
            continue
        always = derived(module)  # worked out anew in every pass
        for name, value in plain(module).items():
            found = (t for t in tensors_in(value) if t.is_floating_point() and id(t) not in own)
            if name not in always and next(found, None) is not None:
                yield path, module, name
        for name in module._non_persistent_buffers_set:
            buffer = module._buffers.get(name)
            if buffer is not None and buffer.is_floating_point():
                yield path, module, name


def _empty(model: nn.Module, x: Tensor, places: list[Place]) -> None:
    """Empty what comes again by itself; places of one class are tried together."""

    def kind(place: Place) -> tuple[str, str]:
        return f"{type(place[1])}", place[2]

    nothing = torch.zeros(1, dtype=torch.int64, device=x.device)
    with attributing(model, x, nothing):
        state = Attributes(model, buffers=True)
        before, left = logits(model, x), list[Place]()
        for _, group in groupby(sorted(places, key=kind), kind):
            tried = list(group)
            for way in (_emptied, _deleted):
                state.restore()
                for place in tried:
                    way(place)
                emptied = Attributes(model, buffers=True)
                if _comes_again(model, x, before, tried):
                    state = emptied
                    break
            else:
                left += tried
        state.restore()
        idle = _idle(model, x) if left else []
        for place in left:
            for name in idle:
                # Elsewhere a parameter may as well be there for nothing.
                if name.rpartition(".")[0] == place[0]:
                    state.restore()
                    _refuse_fixed(model, x, before, name, place)
        state.restore()


def _comes_again(model: nn.Module, x: Tensor, before: Tensor, places: list[Place]) -> bool:
    """Whether a pass gives the same logits, and fills what was emptied."""
    try:
        found = logits(model, x)
    except Exception:
        return False
    full = set(map(_said, _holding(model)))
    near = (found - before).abs().max() <= _ROUNDING * before.abs().max()
    return bool(near) and all(_said(place) in full for place in places)


def _emptied(place: Place) -> None:
    _, module, name = place
    value: Any = getattr(module, name)
    if isinstance(value, MutableSequence | MutableMapping | MutableSet):
        value.clear()  # itself, since others may know it
    else:
        (module._buffers if name in module._buffers else vars(module))[name] = None


def _deleted(place: Place) -> None:
    _, module, name = place
    # Not delattr, with which a buffer would enter the state dict when it comes again.
    del (module._buffers if name in module._buffers else vars(module))[name]


def _idle(model: nn.Module, x: Tensor) -> list[str]:
    """Parameters that get no gradient, although what owns them runs."""
    ran: set[nn.Module] = set()
    parameters = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
    handles = [
        module.register_forward_pre_hook(lambda module, _inputs: ran.add(module))
        for module in model.modules()
    ]
    try:
        with recording():
            for parameter in parameters.values():
                parameter.requires_grad_(True)
            score = logits_of(model, leaf_of(model, x)).sum()
            slopes = torch.autograd.grad(score, list(parameters.values()), allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
        for parameter in parameters.values():
            parameter.requires_grad_(False)
    return [
        name
        for name, slope in zip(parameters, slopes, strict=True)
        if slope is None and model.get_submodule(name.rpartition(".")[0]) in ran
    ]


def _refuse_fixed(model: nn.Module, x: Tensor, before: Tensor, name: str, place: Place) -> None:
    """Raise where another value of a parameter gives the same logits."""
    parameter = model.get_parameter(name)
    value = parameter.detach().clone()
    with torch.no_grad():
        try:
            parameter.copy_(2 * value + 1)
            after = logits(model, x)
        finally:
            parameter.copy_(value)
    if torch.equal(after, before):
        raise ValueError(
            f"parameter {bare_name(model, name)} does not act on the logits, although its module "
            f"runs: {_said(place)} keeps tensors, which seem to be worked out of it once and for "
            "all, so that random weights would change nothing. Let the module compute them in "
            f"every pass, or empty them in its train(), as in self.{place[2]} = None"
        )


def _said(place: Place) -> str:
    path, module, name = place
    return f"{name} of {path or type(module).__name__}"
