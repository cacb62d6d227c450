"""Dark objects are found where they were planted, and shares inside a mask add up."""

import numpy as np
import pytest
import torch
from PIL import Image
from saliency_sanity.book.chapters.input_bias.claims import LEAST_OBJECTS
from saliency_sanity.probes.regions import (
    area,
    check_mask,
    dark_object,
    density,
    depth,
    known_mask,
    on_bright_ground,
    outlined,
    read_masks,
    rim,
    share_inside,
)
from saliency_sanity.subjects.outlines import outlines
from saliency_sanity.subjects.photographs import load_photographs

SIZE = 112


def disk(row: float, column: float, radius: float, size: int = SIZE) -> torch.Tensor:
    """Which pixels lie within ``radius`` of a place, all in shares of the side."""
    place = (torch.arange(size) + 0.5) / size
    return (place[:, None] - row) ** 2 + (place - column) ** 2 <= radius**2


def scene(*objects: torch.Tensor, ground: float = 0.9, colour: float = 0.1) -> torch.Tensor:
    """A picture ``[1, 3, H, W]`` of dark objects on even ground."""
    covered = torch.stack(objects).any(0)
    return torch.where(covered, colour, ground).expand(1, 3, *covered.shape).contiguous()


LEFT, RIGHT = disk(0.5, 0.3, 0.2), disk(0.5, 0.8, 0.12)


def close(found: torch.Tensor, planted: torch.Tensor) -> bool:
    """Whether two regions share all but the few pixels of edge that an opening takes."""
    return ((found & planted).sum() / (found | planted).sum()).item() > 0.99


EVERYWHERE = torch.ones(1, SIZE, SIZE, dtype=torch.bool)


def test_dark_object_is_what_is_dark_within_the_outline():
    pixels = scene(LEFT, RIGHT)
    for outline, planted in (
        (disk(0.5, 0.3, 0.25), LEFT),
        (EVERYWHERE[0], LEFT | RIGHT),
        (disk(0.5, 0.8, 0.15), RIGHT),
    ):
        found = dark_object(pixels, outline[None])
        assert found.dtype == torch.bool
        assert found.shape == (1, SIZE, SIZE)
        assert close(found[0], planted)


def test_no_dark_object_is_an_answer():
    for pixels, outline in (
        (scene(LEFT), RIGHT[None]),  # outlined elsewhere
        (scene(LEFT), ~EVERYWHERE),  # not at all
        (scene(LEFT, colour=0.6), LEFT[None]),  # nothing dark
    ):
        found = dark_object(pixels, outline)
        assert not found.any()
        assert not on_bright_ground(pixels, found).any()
    night = scene(LEFT, ground=0.1)
    everything = dark_object(night, EVERYWHERE)
    assert everything.all()
    assert not on_bright_ground(night, everything).any()


def test_thresholds_are_those_given():
    pixels = scene(LEFT, colour=0.5)
    assert not dark_object(pixels, LEFT[None]).any()
    assert close(dark_object(pixels, LEFT[None], darkest=0.51)[0], LEFT)


def test_luminance_decides_not_the_mean():
    blue = scene(LEFT)
    blue[:, 2, LEFT] = 1.0  # mean 0.4, luminance 0.2
    assert close(dark_object(blue, EVERYWHERE)[0], LEFT)
    green = scene(LEFT)
    green[:, 1, LEFT] = 0.7  # mean 0.3, luminance 0.45
    assert not dark_object(green, EVERYWHERE).any()
    grey = scene(LEFT)[:, :1]
    three = grey.expand(-1, 3, -1, -1)
    assert torch.equal(dark_object(grey, EVERYWHERE), dark_object(three, EVERYWHERE))


def test_threads_and_specks_go_and_highlights_stay():
    thread = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    thread[20:21] = True
    speck = disk(0.1, 0.8, 0.03)  # 0.28 % of the picture
    highlight = disk(0.5, 0.3, 0.05)
    pixels = scene(LEFT, thread, speck)
    pixels[:, :, highlight] = 1.0
    found = dark_object(pixels, EVERYWHERE)[0]
    assert close(found, LEFT & ~highlight)
    assert not found[thread].any()
    assert not found[speck].any()


def test_rule_depends_on_no_other_picture():
    pixels = torch.cat([scene(LEFT), scene(RIGHT), scene(LEFT, RIGHT, ground=0.4)])
    around = torch.stack([LEFT, RIGHT, LEFT])
    masks = dark_object(pixels, around)
    bright = on_bright_ground(pixels, masks)
    for i in range(3):
        one = slice(i, i + 1)
        assert torch.equal(dark_object(pixels[one], around[one]), masks[one])
        assert on_bright_ground(pixels[one], masks[one]) == bright[i]


def test_bright_ground():
    small = disk(0.5, 0.3, 0.05)
    assert on_bright_ground(scene(LEFT), LEFT[None]).tolist() == [True]
    assert on_bright_ground(scene(LEFT, ground=0.3), LEFT[None]).tolist() == [False]
    assert on_bright_ground(scene(LEFT, ground=0.3), LEFT[None], brightest=0.29).all()
    assert not on_bright_ground(scene(small), small[None]).any()
    assert on_bright_ground(scene(small), small[None], least=0.005).all()
    large = disk(0.5, 0.5, 0.49)
    assert not on_bright_ground(scene(large), large[None]).any()
    assert on_bright_ground(scene(large), large[None], most=0.8).all()


def test_photographs_of_dark_objects():
    """As many as a verdict takes, and found without any network."""
    photographs = load_photographs(size=224)
    pixels = photographs.pixels
    masks = dark_object(pixels, outlines(photographs))
    bright = on_bright_ground(pixels, masks)
    assert bright.sum() >= LEAST_OBJECTS
    by_class = dict(zip(photographs.labels, zip(area(masks), bright, strict=True), strict=True))
    for shoe, beetle, dalmatian in [(630, 305, 251)]:
        assert all(by_class[label][0] > 0.1 for label in (shoe, beetle, dalmatian))
        assert all(by_class[label][1] for label in (shoe, beetle, dalmatian))
    # The chestnuts are green, the eagle flies before a dark wood.
    assert by_class[990][0] == 0
    assert by_class[22][0] > 0.1
    assert not by_class[22][1]


def test_share_and_density():
    mask = torch.stack([LEFT, RIGHT])
    uniform = torch.ones(2, 3, SIZE, SIZE)
    assert area(mask).dtype == torch.float64
    assert area(mask).tolist() == pytest.approx([np.pi * 0.04, np.pi * 0.0144], rel=0.02)
    torch.testing.assert_close(share_inside(uniform, mask), area(mask), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        density(uniform, mask), torch.ones(2, dtype=torch.float64), rtol=1e-12, atol=0
    )
    inside = mask[:, None] * torch.randn(2, 3, SIZE, SIZE)
    assert (share_inside(inside, mask) == 1).all()
    torch.testing.assert_close(density(inside, mask), 1 / area(mask))
    assert (share_inside(inside, ~mask) == 0).all()
    assert (density(inside, ~mask) == 0).all()


def test_share_counts_size_not_sign_and_not_scale():
    mask = LEFT[None]
    maps = torch.randn(1, 3, SIZE, SIZE)
    absolute = maps.numpy().astype(np.float64).__abs__().sum(1)
    expected = absolute[0][LEFT.numpy()].sum() / absolute.sum()
    assert share_inside(maps, mask).item() == pytest.approx(expected, rel=1e-12)
    assert share_inside(-1e-20 * maps, mask).item() == pytest.approx(expected, rel=1e-6)
    assert share_inside(maps.abs().sum(1), mask).item() == pytest.approx(expected, rel=1e-6)
    assert share_inside(maps.numpy(), mask).item() == pytest.approx(expected, rel=1e-12)


def test_share_depends_on_no_other_map():
    mask = torch.stack([LEFT, RIGHT, LEFT | RIGHT, ~LEFT])
    maps = torch.randn(4, 3, SIZE, SIZE)
    maps[1] = 0
    together = share_inside(maps, mask)
    assert together.isnan().tolist() == [False, True, False, False]
    singles = torch.cat([share_inside(maps[[i]], mask[[i]]) for i in range(4)])
    torch.testing.assert_close(singles, together, rtol=1e-12, atol=0, equal_nan=True)
    maps[0, 0, 0, 0] = torch.nan
    assert density(maps, mask).isnan().tolist() == [True, True, False, False]


@pytest.mark.parametrize("measure", [check_mask, lambda m, e: share_inside(e, m)])
def test_masks_that_do_not_fit(measure):
    maps, mask = torch.rand(2, 3, SIZE, SIZE), torch.stack([LEFT, RIGHT])
    measure(mask, maps)
    with pytest.raises(TypeError, match=r"the mask is torch.uint8; expected a tensor of booleans"):
        measure(mask.byte(), maps)
    with pytest.raises(TypeError, match=r"the mask is bool; expected a tensor"):
        measure(mask.numpy(), maps)
    shape = r"the mask has shape \(2, 112, 112\), the maps need \(2, 56, 112\): make it"
    with pytest.raises(ValueError, match=shape):
        measure(mask, maps[:, :, ::2])
    with pytest.raises(ValueError, match=r"\(1, 112, 112\), the maps need \(2, 112, 112\)"):
        measure(mask[:1], maps)
    empty = torch.stack([LEFT, LEFT & ~LEFT])
    with pytest.raises(ValueError, match=r"the mask of picture 1 is empty; .* leave this picture"):
        measure(empty, maps)
    with pytest.raises(ValueError, match=r"mask of picture 1 covers the whole picture"):
        measure(~empty, maps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": scene(LEFT) * 2 - 1}, r"pixels lie in \[-0.8, 0.8\]; raw ones in \[0, 1\]"),
        ({"pixels": scene(LEFT) * torch.nan}, r"pixels lie in \[nan, nan\]"),
        ({"pixels": scene(LEFT)[0]}, r"\(3, 112, 112\); expected \[N,C,H,W\] with 1 or 3"),
        ({"pixels": scene(LEFT)[:, :2]}, r"\(1, 2, 112, 112\); expected"),
        ({"outline": EVERYWHERE[:, :50]}, r"shape \(1, 50, 112\), the pictures need \(1, 112, 112"),
        ({"darkest": 35}, r"darkest is 35; it is a share above 0 and at most 1"),
    ],
)
def test_scenes_that_cannot_be_read(change, message):
    given = {"pixels": scene(LEFT), "outline": EVERYWHERE, **change}
    with pytest.raises(ValueError, match=message):
        dark_object(**given)


def test_ground_needs_a_fitting_mask():
    with pytest.raises(ValueError, match=r"the pictures need \(1, 112, 112\)"):
        on_bright_ground(scene(LEFT), torch.stack([LEFT, RIGHT]))
    with pytest.raises(TypeError, match=r"the mask is torch.float32"):
        on_bright_ground(scene(LEFT), LEFT[None].float())


def test_garments_lie_on_exact_black():
    garments = load_photographs("fashion_mnist", size=28, count=200)
    mask = known_mask(garments.pixels)
    assert mask.shape == (200, 28, 28)
    inside = mask[:, None].expand_as(garments.pixels)
    assert (garments.pixels[inside] >= 1 / 255).all()
    assert (garments.pixels[~inside] == 0).all()
    assert (share_inside(garments.pixels, mask) == 1).all()
    # On inverted pictures the garments are dark objects on bright ground, most of them darker.
    assert density(1 - garments.pixels, mask).median() < 1
    one_channel = scene(LEFT, ground=0.0)
    one_channel[:, :2] = 0
    assert torch.equal(known_mask(one_channel)[0], LEFT)


def test_garments_that_have_no_outline():
    pixels = torch.cat([scene(LEFT, ground=0.0), torch.zeros(1, 3, SIZE, SIZE)])
    with pytest.raises(ValueError, match=r"mask of picture 1 is empty; known_mask takes pictures"):
        known_mask(pixels)
    with pytest.raises(ValueError, match=r"mask of picture 0 covers the whole picture; known_mask"):
        known_mask(scene(LEFT))


@pytest.fixture
def folders(tmp_path):
    """Two photographs, 80 x 60 and upright 60 x 80, with masks of their left halves."""
    pictures, masks = tmp_path / "pictures", tmp_path / "masks"
    pictures.mkdir()
    masks.mkdir()
    for name, size in (("shoe", (80, 60)), ("beetle", (60, 80))):
        Image.new("RGB", size, "gray").save(pictures / f"{name}.jpg")
        half(size).save(masks / f"{name}.png")
    return masks, pictures


def half(size: tuple[int, int]) -> Image.Image:
    """A mask that is white on the left half."""
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return mask


HALF = torch.arange(20).expand(2, 20, 20) < 10


def test_masks_get_the_photographs_crop(folders):
    masks, pictures = folders
    found = read_masks(masks, pictures, 20)
    assert found.dtype == torch.bool
    assert torch.equal(found, HALF)
    assert torch.equal(read_masks(str(masks), str(pictures), 20), HALF)
    # The crop takes 10 of the 80 columns on either side.
    narrow = np.zeros((60, 80), dtype=np.uint8)
    narrow[:, 8:25] = 255
    Image.fromarray(narrow).save(masks / "shoe.png")
    _beetle, shoe = read_masks(masks, pictures, 60)
    assert torch.equal(shoe, (torch.arange(60) < 15).expand(60, 60))


def test_masks_are_cut_at_half(folders):
    masks, pictures = folders
    ramp = np.linspace(0, 255, 60).round().astype(np.uint8)
    Image.fromarray(np.pad(np.tile(ramp, (60, 1)), ((0, 0), (10, 10)))).save(masks / "shoe.png")
    _beetle, shoe = read_masks(masks, pictures, 60)
    assert torch.equal(shoe, (torch.arange(60) >= 30).expand(60, 60))


def test_masks_follow_the_order_of_the_photographs(folders):
    masks, pictures = folders
    names = load_photographs(str(pictures), size=20).names
    assert names == ("beetle", "shoe")
    Image.eval(half((80, 60)), lambda value: 255 - value).convert("1").save(masks / "shoe.png")
    beetle, shoe = read_masks(masks, pictures, 20)
    assert torch.equal(beetle, HALF[0])
    assert torch.equal(shoe, ~HALF[0])


def test_masks_of_photographs_that_share_a_name(folders):
    masks, pictures = folders
    Image.new("RGB", (80, 60), "gray").save(pictures / "shoe.png")
    assert load_photographs(str(pictures), size=20).names == ("beetle", "shoe.jpg", "shoe.png")
    with pytest.raises(ValueError, match=r"no mask for shoe.jpg, shoe.png; .* such as shoe.jpg.pn"):
        read_masks(masks, pictures, 20)
    for name in ("shoe.jpg.png", "shoe.png.png"):
        (masks / name).write_bytes((masks / "shoe.png").read_bytes())
    assert torch.equal(read_masks(masks, pictures, 20), HALF[:1].expand(3, 20, 20))


def test_a_turned_photograph_has_an_upright_mask(folders):
    masks, pictures = folders
    turned = Image.Exif()
    turned[0x0112] = 6  # stored on its side
    Image.new("RGB", (80, 60), "gray").save(pictures / "beetle.jpg", exif=turned)
    assert torch.equal(read_masks(masks, pictures, 20), HALF)


def test_mask_files_that_do_not_fit(folders):
    masks, pictures = folders
    with pytest.raises(ValueError, match=r"folder .*nowhere of masks does not exist"):
        read_masks(masks / "nowhere", pictures, 20)
    with pytest.raises(ValueError, match=r"folder nowhere of photographs does not exist"):
        read_masks(masks, "nowhere", 20)
    with pytest.raises(ValueError, match=r"masks need a folder of their own"):
        read_masks(pictures, pictures, 20)
    half((40, 30)).save(masks / "shoe.png")
    sizes = r"shoe.png is 40 x 30 pixels, .*shoe.jpg is 80 x 60; draw the mask"
    with pytest.raises(ValueError, match=sizes):
        read_masks(masks, pictures, 20)
    for colour, state in ((0, "is empty"), (255, "covers the whole picture")):
        Image.new("L", (80, 60), colour).save(masks / "shoe.png")
        with pytest.raises(ValueError, match=rf"shoe.png {state}; white \(255\) is the object"):
            read_masks(masks, pictures, 20)
    (masks / "shoe.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"shoe.png is not a picture that can be read"):
        read_masks(masks, pictures, 20)
    half((80, 60)).save(masks / "shoe.png")
    half((80, 60)).save(masks / "shoe.bmp")
    with pytest.raises(ValueError, match=r"has shoe.bmp and shoe.png for shoe; keep one"):
        read_masks(masks, pictures, 20)
    (masks / "shoe.bmp").unlink()
    (masks / "shoe.png").unlink()
    with pytest.raises(ValueError, match=r"has no mask for shoe; .* such as shoe.png"):
        read_masks(masks, pictures, 20)


def test_depth_is_the_mean_luminance_inside():
    spot = disk(0.5, 0.5, 0.3)
    pixels = torch.cat([scene(spot, colour=0.1), scene(spot, colour=0.3)])
    mask = torch.stack([spot, spot])
    assert depth(pixels, mask).tolist() == pytest.approx([0.1, 0.3], rel=1e-5)
    assert depth(pixels, ~mask).tolist() == pytest.approx([0.9, 0.9], rel=1e-5)


def test_rim_is_the_outermost_ring():
    ring = rim(torch.rand(2, 3, 5, 7))
    assert ring.shape == (2, 5, 7)
    assert ring.sum((1, 2)).tolist() == [2 * 7 + 2 * 3] * 2
    assert not ring[:, 1:-1, 1:-1].any()


def test_outline_leaves_all_but_the_border_of_the_mask_as_it_was():
    pixels = torch.full((1, 1, 28, 28), 0.25)
    mask = torch.zeros(1, 28, 28, dtype=torch.bool)
    mask[:, 10:18, 10:18] = True
    drawn = outlined(pixels, mask)
    times = drawn.shape[-1] // 28
    assert drawn.shape == (1, 3, 28 * times, 28 * times)
    assert times >= 2
    coloured = (drawn != 0.25).any(1)[0]
    assert coloured.any()
    edge = slice(10 * times - 1, 18 * times + 1)
    outside = coloured.clone()
    outside[edge, edge] = False
    assert not outside.any()
    assert not coloured[10 * times + 1 : 18 * times - 1, 10 * times + 1 : 18 * times - 1].any()
    large = torch.rand(1, 3, 300, 300)
    assert outlined(large, torch.ones(1, 300, 300, dtype=torch.bool)).shape == large.shape
    with pytest.raises(ValueError, match="the pictures need"):
        outlined(pixels, mask[:, :-1])
