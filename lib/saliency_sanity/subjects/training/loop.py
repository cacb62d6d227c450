"""Training of the small networks and of a small-picture Inception v3, resumable and repeatable."""

import math
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from saliency_sanity._files import replacing, results_folder
from saliency_sanity._provenance import provenance
from saliency_sanity._random import generator
from saliency_sanity.subjects.datasets import CLASS_NAMES, Dataset, load_dataset, to_pixels
from saliency_sanity.subjects.small_networks import TRAINABLE, build_untrained
from saliency_sanity.subjects.training.accuracy import accuracy, chance_error
from saliency_sanity.subjects.training.checkpoints import write_trained
from saliency_sanity.subjects.training.recipe import Recipe

# Pictures that the batch norms' final statistics are taken from, and the training accuracy too
# where nothing depends on it.
_SAMPLE = 2000

# A temporary file of a killed writer; none takes that long.
_STALE_SECONDS = 600


def train(
    recipe: Recipe, path: str | Path, *, progress: bool = True, checkpoint_seconds: float = 60
) -> dict[str, Any]:
    """Train by ``recipe``, write the network to ``path`` and return the record in its header.

    The same recipe gives the same tensors, bit for bit on one machine with as many threads, also
    after a kill: training goes on from ``PATH.checkpoint``, written every ``checkpoint_seconds``.
    Batch norms' statistics are taken anew at the end; dropout is left out. Where the recipe sets
    a ``target_accuracy``, or labels are permuted, the record's ``train_accuracy`` is that of all
    training pictures; ``target_reached`` says whether it is enough, None without a target. Raises
    ValueError for training that diverges and labels that no permutation changes, ResultsError where
    the files cannot be written, and what ``load_dataset`` raises.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"output {str(path)!r}: the name must end in '.safetensors'")
    started = datetime.now(UTC)
    pictures = load_dataset(recipe.dataset, "train", source=recipe.source, count=recipe.images)
    tests = load_dataset(recipe.dataset, "test", source=recipe.source)
    labels = training_labels(recipe, pictures.labels)
    run = _Run(recipe, pictures.images, labels, path)
    before = run.seconds
    run.go(progress, checkpoint_seconds)
    record = _record(run, recipe, pictures, tests, started)
    record["seconds"] = round(before + record["seconds"], 1)
    record = write_trained(run.network, path, record)
    run.checkpoint.unlink(missing_ok=True)
    return record


def training_labels(recipe: Recipe, labels: Tensor) -> Tensor:
    """The labels ``[N]`` to train on: ``labels`` as they are, or permuted among the pictures.

    A permutation leaves about one label in ten what it was. Raises ValueError where it leaves
    all. [adebayo2018sanity], section 4
    """
    if recipe.labels == "true":
        return labels
    random = generator(recipe.seed, "permuted labels")
    permuted = labels[torch.randperm(len(labels), generator=random, device="cpu")]
    if torch.equal(permuted, labels):
        raise ValueError(
            f"the permutation of {len(labels)} labels with seed {recipe.seed} leaves all of them "
            "unchanged; take more pictures, of several classes, or another seed"
        )
    return permuted


class _Run:
    """A network on its way: what a checkpoint has to hold, and what a step does."""

    def __init__(self, recipe: Recipe, images: Tensor, labels: Tensor, path: Path):
        self.recipe, self.images, self.labels = recipe, images, labels
        kind = TRAINABLE[recipe.network]
        self.scaling, self.channels = kind.scaling, kind.channels
        network = self._fresh()
        self.network = network.to(memory_format=torch.channels_last)
        weights = sum(p.numel() * p.element_size() for p in network.parameters())
        # The file, a checkpoint and the next one, each with two moments beside the weights.
        folder = results_folder(path.absolute().parent, 8 * weights)
        self.checkpoint = folder / f"{path.name}.checkpoint"
        self.optimizer = recipe.make_optimizer(network)
        self.steps = max(1, math.ceil(recipe.epochs * len(images) / recipe.batch))
        # Right and seen: of the epoch that goes on. Share: of the one before, right on the way.
        self.step, self.right, self.seen, self.share, self.seconds = 0, 0, 0, None, 0.0
        self.epochs = 0.0
        self._orders: dict[int, Tensor] = {}
        self._sweep()
        self._resume()

    def _fresh(self) -> nn.Module:
        recipe = self.recipe
        classes = len(CLASS_NAMES[recipe.dataset])
        return build_untrained(recipe.network, recipe.seed, size=recipe.size, classes=classes)

    def go(self, progress: bool, checkpoint_seconds: float) -> None:
        began = saved = time.monotonic()
        before = self.seconds
        self._set_training()
        bar = tqdm(
            total=self.steps,
            initial=self.step,
            desc=f"train {self.recipe.key}, seed {self.recipe.seed}",
            unit="batch",
            disable=not progress,
            # A log keeps every line.
            mininterval=0.5 if sys.stderr.isatty() else 5,
            # The mean over the whole run: time spent on measuring and saving sways it least.
            smoothing=0,
        )
        with bar:
            while self.step < self.steps:
                loss = self._advance()
                reached = self._reached()
                bar.set_postfix_str(self._said(loss), refresh=False)
                bar.update()
                now = time.monotonic()
                self.seconds = before + now - began
                if reached:
                    # Sooner than it had to be; the rest of the bar is not run.
                    bar.total = bar.n
                    break
                if now - saved >= checkpoint_seconds and self.step < self.steps:
                    self._save()
                    saved = time.monotonic()
        self.epochs = self.step * self.recipe.batch / len(self.images)
        self._settle()

    def _set_training(self) -> None:
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, nn.Dropout):
                # It would draw from the global generator, and slows short training down.
                module.eval()

    def _said(self, loss: float) -> str:
        target = f" (target {self.recipe.target_accuracy:.1%})"
        epoch = "" if self.share is None else f", last epoch {self.share:.1%} right"
        return f"loss {loss:.3f}{epoch}{target if self.recipe.target_accuracy else ''}"

    def _advance(self) -> float:
        taken = self._indices(self.step)
        x = self._input(self._augmented(self.images[taken]))
        logits = self.network(x)
        loss = F.cross_entropy(logits, self.labels[taken])
        value = loss.item()
        if not math.isfinite(value):
            raise ValueError(
                f"training of {self.recipe.network} diverged at step {self.step + 1} (loss "
                f"{value}); choose a smaller learning_rate than {self.recipe.learning_rate}"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step, self.steps)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.right += int((logits.argmax(1) == self.labels[taken]).sum())
        self.seen += len(taken)
        self.step += 1
        return value

    def _reached(self) -> bool:
        """Whether an epoch ends here, and the network classifies enough of all pictures right."""
        batch, n = self.recipe.batch, len(self.images)
        if self.step * batch // n == (self.step - 1) * batch // n:
            return False
        self.share = self.right / self.seen
        self.right = self.seen = 0
        if not 0 < self.recipe.target_accuracy <= self.share:
            return False
        # That was counted on the way, by weights that have changed since: now by those it has.
        # Training never reads the statistics which this leaves in the batch norms.
        self._settle()
        found = self.learned(slice(None))
        self._set_training()
        return found >= self.recipe.target_accuracy

    def _indices(self, step: int) -> Tensor:
        """The pictures of a step, from the endless row of shuffled epochs: all batches are full."""
        n, batch = len(self.images), self.recipe.batch
        first, last = step * batch // n, ((step + 1) * batch - 1) // n
        for epoch in range(first, last + 1):
            if epoch not in self._orders:
                random = generator(self.recipe.seed, "order", epoch)
                self._orders[epoch] = torch.randperm(n, generator=random, device="cpu")
        self._orders = {k: v for k, v in self._orders.items() if k >= first}
        row = torch.cat([self._orders[epoch] for epoch in range(first, last + 1)])
        start = step * batch - first * n
        return row[start : start + batch]

    def _augmented(self, images: Tensor) -> Tensor:
        if self.recipe.augmentation == "flip-shift":
            images = self._shifted(images)
        if not self.recipe.negatives:
            return images
        random = generator(self.recipe.seed, "negatives", self.step)
        turned = torch.rand(len(images), generator=random, dtype=torch.float32, device="cpu") < 0.5
        return torch.where(turned[:, None, None], _negative(images), images)

    def _shifted(self, images: Tensor) -> Tensor:
        random = generator(self.recipe.seed, "augmentation", self.step)
        mirrored = torch.rand(len(images), generator=random, dtype=torch.float32, device="cpu")
        mirrored = mirrored < 0.5
        images = torch.where(mirrored[:, None, None], images.flip(2), images)
        shifts = torch.randint(0, 5, (len(images), 2), generator=random, device="cpu").tolist()
        height, width = images.shape[1:]
        padded = F.pad(images, (2, 2, 2, 2))
        return torch.stack(
            [
                picture[top : top + height, left : left + width]
                for picture, (top, left) in zip(padded, shifts, strict=True)
            ]
        )

    def _input(self, images: Tensor) -> Tensor:
        x = self.scaling.to_network(to_pixels(images, self.recipe.size, self.channels))
        return x.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _settle(self) -> None:
        """Replace the batch norms' running statistics by those of the finished weights."""
        norms = [m for m in self.network.modules() if isinstance(m, nn.BatchNorm2d)]
        kept = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over batches
        for part in self._parts(self._learned(slice(_SAMPLE))) if norms else ():
            self.network(part)
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
        self.network.eval()

    def _parts(self, images: Tensor) -> Iterator[Tensor]:
        # Equal parts, since each counts as much: a rest of one picture would have no variance.
        for part in images.tensor_split(math.ceil(len(images) / 100)):
            yield self._input(part)

    @torch.inference_mode()
    def predicted(self, images: Tensor) -> Tensor:
        return torch.cat([self.network(part).argmax(1) for part in self._parts(images)])

    def _learned(self, sample: slice) -> Tensor:
        """Pictures as they are learned from, with the negatives where the recipe has some."""
        images = self.images[sample]
        return torch.cat([images, _negative(images)]) if self.recipe.negatives else images

    def learned(self, sample: slice) -> float:
        """Which part of them is classified as their labels say."""
        pictures, labels = self._learned(sample), self.labels[sample]
        return accuracy(self.predicted(pictures), labels.repeat(len(pictures) // len(labels)))

    def _save(self) -> None:
        state = {
            "recipe": asdict(self.recipe),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": (self.step, self.right, self.seen, self.share, self.seconds),
        }
        with replacing(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def _resume(self) -> None:
        if not self.checkpoint.is_file():
            return
        try:
            state = torch.load(self.checkpoint, weights_only=True)
            if state["recipe"] != asdict(self.recipe):
                raise ValueError("it belongs to another recipe")
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.right, self.seen, self.share, self.seconds = state["progress"]
        except Exception as error:  # damaged files raise anything: KeyError, EOFError, …
            warnings.warn(
                f"checkpoint {self.checkpoint.name} cannot be used ({error}); "
                "training starts from the beginning and will replace it",
                stacklevel=4,
            )
            # Half of it may have been taken over.
            self.network.load_state_dict(self._fresh().state_dict())
            self.optimizer = self.recipe.make_optimizer(self.network)

    def _sweep(self) -> None:
        for left in self.checkpoint.parent.glob(f".{self.checkpoint.name}.*.tmp"):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink(missing_ok=True)


def _negative(images: Tensor) -> Tensor:
    """The negatives of ``images`` uint8: 1 - p of what ``to_pixels`` makes of them."""
    return 255 - images


def _record(
    run: _Run, recipe: Recipe, pictures: Dataset, tests: Dataset, started: datetime
) -> dict[str, Any]:
    target = recipe.target_accuracy
    # What is read from a network that learned permuted labels hangs on this.
    sample = slice(None if target or recipe.labels == "permuted" else _SAMPLE)
    right = run.learned(sample)
    found = run.predicted(tests.images)
    accuracies = {
        "test_accuracy": accuracy(found, tests.labels),
        "test_chance_error": chance_error(found, tests.labels, len(tests.class_names)),
        "test_count": len(tests),
        "train_accuracy": right,
        "train_count": len(pictures.images[sample]),
        "target_accuracy": target,
        "target_reached": right >= target if target else None,
    }
    if recipe.negatives:
        turned = run.predicted(_negative(tests.images))
        accuracies["negatives_test_accuracy"] = accuracy(turned, tests.labels)
    changed = (run.labels != pictures.labels).double().mean().item()
    return {
        **provenance(parameters=recipe.parameters, seeds=[recipe.seed], started=started),
        "network": recipe.network,
        "dataset": recipe.dataset,
        "classes": list(pictures.class_names),
        "size": recipe.size,
        "channels": run.channels,
        "images": len(pictures),
        "labels": recipe.labels,
        "labels_changed": changed,
        "epochs": run.epochs,
        "steps": run.step,
        **accuracies,
    }
