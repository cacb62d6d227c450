"""Scenes: the answer is where it is said to be, and one task says nothing of another."""

import numpy as np
import pytest
import torch
from saliency_sanity.subjects.datasets import CLASS_NAMES, TASKS, load_dataset, load_scenes
from saliency_sanity.subjects.scenes import CELL, SHAPES, SIDE, halves, pairs

GARMENTS = load_dataset(split="test", count=300)


def pairs_by_loop(scene, image, garment):
    """What has to hold of a pair, asked pixel by pixel."""
    cells = {name: masks[image].numpy() for name, masks in scene.regions.items()}
    picture = scene.images[image].numpy()
    for mask in cells.values():
        rows, columns = np.nonzero(mask)
        assert (np.ptp(rows), np.ptp(columns)) == (CELL - 1, CELL - 1)
        assert len(rows) == CELL * CELL
    assert not (cells["garment"] & cells["shape"]).any()
    assert not picture[~(cells["garment"] | cells["shape"])].any()
    rows, columns = np.nonzero(cells["garment"])
    for place, (row, column) in enumerate(zip(rows, columns, strict=True)):
        block = garment[2 * (place // CELL) :, 2 * (place % CELL) :][:2, :2]
        assert abs(float(picture[row, column]) - block.mean()) <= 0.5
    shape = picture[cells["shape"]].reshape(CELL, CELL)
    values = np.unique(shape[shape > 0])
    assert len(values) == 1
    assert values[0] >= 127
    return shape > 0


def test_pairs_are_what_their_labels_and_cells_say():
    scene = pairs(GARMENTS.images, GARMENTS.labels, 3, "test")
    assert torch.equal(scene.labels["garment"], GARMENTS.labels)
    lefts = []
    for image in range(60):
        shape = pairs_by_loop(scene, image, GARMENTS.images[image].double().numpy())
        rows, columns = np.nonzero(shape)
        box = shape[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        name = SHAPES[scene.labels["shape"][image]]
        assert box.all() == (name == "rectangle")
        if name == "circle":
            assert np.array_equal(box, box.T)
            assert not box[0, 0]
        lefts.append(bool(scene.regions["garment"][image, :, 0].any()))
    assert 10 < sum(lefts) < 50


def test_shape_and_place_are_drawn_independently_of_the_garment():
    labels = GARMENTS.labels
    scene = pairs(GARMENTS.images, labels, 0, "train")
    other = pairs(GARMENTS.images.flip(0), labels.flip(0), 0, "train")
    assert torch.equal(scene.labels["shape"], other.labels["shape"])
    for name in ("garment", "shape"):
        assert torch.equal(scene.regions[name], other.regions[name])
    shape = scene.regions["shape"]
    assert torch.equal(scene.images[shape], other.images[shape])
    again = pairs(GARMENTS.images, labels, 1, "train")
    assert not torch.equal(scene.labels["shape"], again.labels["shape"])
    split = pairs(GARMENTS.images, labels, 0, "test")
    assert not torch.equal(scene.labels["shape"], split.labels["shape"])


def test_halves_lose_what_their_label_says_and_parts_share_the_picture():
    scene = halves(GARMENTS.images, 0, "test")
    deleted = scene.labels["state"] == 1
    assert 0.4 < deleted.double().mean() < 0.6
    assert torch.equal(scene.images[~deleted], GARMENTS.images[~deleted])
    assert torch.equal(scene.images[:, : SIDE // 2], GARMENTS.images[:, : SIDE // 2])
    assert not scene.images[deleted, SIDE // 2 :].any()
    whole = sum(mask.long() for mask in scene.regions.values())
    assert (whole == 1).all()
    assert scene.regions["boundary"][0].sum() == 4 * SIDE
    assert scene.regions["kept"].sum() == scene.regions["deleted"].sum()


@pytest.mark.parametrize("name", TASKS)
def test_tasks_are_data_sets_whose_first_pictures_are_always_the_same(name):
    kind, task = TASKS[name]
    for split in ("train", "test"):
        found = load_dataset(name, split)
        scenes = load_scenes(kind, split)
        assert torch.equal(found.images, scenes.images)
        assert torch.equal(found.labels, scenes.labels[task])
        assert set(found.labels.tolist()) == set(range(len(CLASS_NAMES[name])))
        few = load_dataset(name, split, count=7)
        assert len(few) == 7
        assert torch.equal(few.images, found.images[:7])
    assert not torch.equal(load_dataset(name, "train", count=7).images, few.images)


def test_both_tasks_of_pairs_have_the_same_pictures():
    garment, shape = (load_dataset(name, "test") for name in ("pairs_garment", "pairs_shape"))
    assert torch.equal(garment.images, shape.images)
    names = [GARMENTS.class_names[k] for k in (1, 2, 9)]
    assert list(garment.class_names) == names
    # What one label says of the other: nothing but chance.
    table = np.zeros((3, 2))
    np.add.at(table, (garment.labels.numpy(), shape.labels.numpy()), 1)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() < 13.8  # of 2 degrees of freedom, p = 0.001


def test_wrong_asks_are_refused():
    with pytest.raises(ValueError, match=r"unknown kind of scenes 'pair'. Nearest: pairs"):
        load_scenes("pair")
    with pytest.raises(ValueError, match=r"9999 pictures asked for, pairs \(test, .* has 600"):
        load_dataset("pairs_shape", "test", count=9999)
    with pytest.raises(ValueError, match=r"garments are torch.uint8 \(2, 14, 14\); expected uint8"):
        halves(torch.zeros(2, 14, 14, dtype=torch.uint8), 0, "test")
    with pytest.raises(ValueError, match=r"garments are torch.float32"):
        pairs(torch.zeros(2, 28, 28), torch.zeros(2), 0, "test")
