"""Maps on a page that a reader moves through the stages: one self-contained piece of HTML."""

import base64
import hashlib
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template

import matplotlib as mpl
import numpy as np
from PIL import Image

from saliency_sanity._errors import unknown
from saliency_sanity.experiments.outcome import ORIGINAL
from saliency_sanity.plots.maps import films, resized, state
from saliency_sanity.plots.style import SIGNED, UNSIGNED

_BLOCK = 16  # pixels, WebP's
_SIZES = (112, 96, 80, 64, 48)  # pixels, the stored height of a map
_QUALITIES = (80, 55, 30)
_LONGEST = 16383  # pixels, WebP's limit
_COLOURS = 33  # of a colour map's table; odd, so that zero of a signed map has an entry


@dataclass(frozen=True)
class StageSlider:
    """Interactive pictures for a page; ``markup`` is HTML that needs nothing else."""

    markup: str
    summary: str

    def _repr_html_(self) -> str:
        return self.markup

    def __repr__(self) -> str:
        return self.summary


def stage_slider(
    picture: np.ndarray,
    absolute: Mapping[str, np.ndarray] | None,
    stages: Sequence[str],
    *,
    signed: Mapping[str, np.ndarray] | None = None,
    caption: str,
    says: str = "randomized down to {stage}",
    notes: Mapping[str, Sequence[str]] | None = None,
    limit: int = 600_000,
) -> StageSlider:
    """Show one picture's maps of all methods at the stage that the reader chooses.

    Parameters
    ----------
    picture
        ``[h, w]`` or ``[h, w, 3]`` in [0, 1].
    absolute, signed
        Display pictures by method as for :func:`saliency_sanity.plots.maps.films`, for the same
        methods; with both the reader can switch between them.
    stages
        Names of the stages, without the original.
    caption
        What is shown, in words; plain text.
    says
        The current stage in words, around ``{stage}``.
    notes
        By method a short text for the original and each stage, such as kappa.
    limit
        Most characters of the markup. Maps are stored smaller and rougher until they fit: WebP,
        each pixel the mean of what it covers.

    Raises
    ------
    ValueError
        The pictures are not as described, ``notes`` has another length or method, or the markup
        cannot be made as short as ``limit``.
    """
    modes = {
        name: films(pictures, stages, signed=name == "signed")
        for name, pictures in (("absolute", absolute), ("signed", signed))
        if pictures is not None
    }
    if not modes:
        raise ValueError("give absolute pictures, signed ones, or both")
    names = list(next(iter(modes.values())))
    for shown in modes.values():
        if list(shown) != names:
            raise ValueError(f"absolute and signed differ in methods: {names} and {list(shown)}")
    for name, texts in (notes or {}).items():
        if name not in names:
            raise ValueError(unknown("method", name, names))
        if len(texts) != len(stages) + 1:
            raise ValueError(
                f"notes of {name!r} are {len(texts)}; give {len(stages) + 1}: "
                f"the {ORIGINAL} and {len(stages)} stages"
            )
    words = [f"{ORIGINAL}: the trained network", *(says.format(stage=stage) for stage in stages)]
    for size in _SIZES:
        if _tile(modes[next(iter(modes))][names[0]], size)[0] * len(words) > _LONGEST:
            continue
        for quality in _QUALITIES:
            markup = _markup(picture, modes, words, caption, notes or {}, size, quality)
            if len(markup) <= limit:
                return StageSlider(
                    markup, f"slider of {len(names)} methods and {len(stages)} stages"
                )
    raise ValueError(
        f"{len(names)} methods and {len(stages)} stages do not fit into {limit} characters; "
        "choose fewer of them or a higher limit"
    )


def _markup(
    picture: np.ndarray,
    modes: Mapping[str, Mapping[str, np.ndarray]],
    words: Sequence[str],
    caption: str,
    notes: Mapping[str, Sequence[str]],
    size: int,
    quality: int,
) -> str:
    escape = html.escape
    names = list(next(iter(modes.values())))
    tiles = []
    for name in names:
        frames, states = [], {}
        for mode, shown in modes.items():
            film = shown[name]
            states[mode] = [state(one) for one in film]
            about = f"{mode} map of {name} at the chosen stage"
            frames.append(
                f'<div class="frame {mode}"><img src="{_film(film, mode, size, quality)}" '
                f'alt="{escape(about)}"></div>'
            )
        first = states[next(iter(modes))][0]
        said = notes.get(name)
        note = f'<span class="note">{escape(said[0])}</span>' if said else ""
        data = escape(json.dumps({"states": states, "notes": said and list(said)}))
        tiles.append(
            f'<div class="tile" data-film="{data}"><div class="screen">{"".join(frames)}'
            f'<span class="state">{first}</span></div><span>{escape(name)}</span>{note}</div>'
        )
    pixels = np.uint8(np.round(np.asarray(picture) * 255))
    whole = max(1, size // len(pixels))  # a digit's pixels stay squares
    content = {
        "picture": _webp(pixels.repeat(whole, 0).repeat(whole, 1), 80, most=2 * size),
        "tiles": "\n".join(tiles),
        "caption": escape(caption),
        "words": escape(json.dumps(words)),
        "first": escape(words[0]),
        "last": len(words) - 1,
        "mode": next(iter(modes)),
    }
    # Named by its content: the same page twice is the same text twice.
    key = "stages-" + hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]
    width, height = _tile(next(iter(modes.values()))[names[0]], size)
    return _PAGE.substitute(
        content,
        key=key,
        ratio=f"{width} / {height}",
        switch=_SWITCH.substitute(key=key) if len(modes) > 1 else "",
        filters="".join(_filter(mode, key) for mode in modes),
    )


def _tile(film: np.ndarray, size: int) -> tuple[int, int]:
    """Width and height of a stored map: whole blocks of WebP, so that none mixes two maps."""
    return max(1, round(size * film.shape[2] / film.shape[1] / _BLOCK)) * _BLOCK, size


def _film(film: np.ndarray, mode: str, size: int, quality: int) -> str:
    """All pictures ``[S + 1, h, w]`` of a method side by side, in grey, as an address."""
    width, height = _tile(film, size)
    strip = np.concatenate(
        [resized(np.where(np.isfinite(one), one, 0), height, width) for one in film], axis=1
    )
    if mode == "signed":
        strip = (strip + 1) / 2
    return _webp(np.uint8(np.round(255 * strip.clip(0, 1))), quality)


def _webp(pixels: np.ndarray, quality: int, most: int = _LONGEST) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((most, most))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _filter(mode: str, key: str) -> str:
    """The colour map as a filter: maps are stored in grey, where nothing blurs their sign."""
    table = mpl.colormaps[SIGNED if mode == "signed" else UNSIGNED](np.linspace(0, 1, _COLOURS))
    functions = "".join(
        f'<feFunc{channel} type="table" '
        f'tableValues="{" ".join(f"{value:.3f}" for value in table[:, i])}"/>'
        for i, channel in enumerate("RGB")
    )
    return (
        f'<filter id="{key}-{mode}" color-interpolation-filters="sRGB">'
        f"<feComponentTransfer>{functions}</feComponentTransfer></filter>"
    )


_SWITCH = Template("""\
<fieldset><legend>Maps</legend>
<label><input type="radio" name="$key-mode" value="absolute" checked autocomplete="off">
absolute</label>
<label><input type="radio" name="$key-mode" value="signed" autocomplete="off"> signed</label>
</fieldset>""")

_PAGE = Template("""\
<figure class="stage-slider" id="$key" data-words="$words" data-mode="$mode" style="--stage: 0">
<style>
#$key { color: inherit; margin: 1rem 0; max-width: 100%; text-align: left; }
#$key .controls { align-items: center; display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; }
#$key .controls[hidden] { display: none; }
#$key .stage { align-items: center; display: flex; flex: 1 1 16rem; gap: .6rem; min-width: 0; }
#$key input[type="range"] { accent-color: #0072b2; flex: 1 1 auto; height: 2rem; margin: 0;
  min-width: 0; padding: 0; width: 100%; }
#$key input:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
#$key fieldset { border: 0; display: flex; gap: .8rem; margin: 0; padding: 0; }
#$key fieldset label, #$key .stage label { margin: 0; }
#$key legend { clip-path: inset(50%); height: 1px; margin: 0; padding: 0; position: absolute;
  width: 1px; }
#$key output { display: block; font-weight: 600; min-height: 1.6em; margin: .2rem 0 .5rem; }
#$key .tiles { display: grid; gap: .6rem;
  grid-template-columns: repeat(auto-fill, minmax(6.2rem, 1fr)); }
#$key .tile { font-size: .8rem; line-height: 1.25; min-width: 0; overflow-wrap: anywhere; }
#$key .tile > span { display: block; }
#$key .note { opacity: .85; }
#$key .screen { aspect-ratio: $ratio; margin-bottom: .2rem; position: relative; width: 100%; }
#$key .frame { height: 100%; width: 100%; }
#$key .frame.absolute { filter: url(#$key-absolute); }
#$key .frame.signed { filter: url(#$key-signed); }
#$key[data-mode="signed"] .screen { outline: 1px solid #8c8c8c; }
#$key[data-mode="absolute"] .frame.signed, #$key[data-mode="signed"] .frame.absolute {
  display: none; }
#$key .screen img { background: none; border-radius: 0; box-shadow: none; display: block;
  filter: none; height: 100%; margin: 0; max-width: none; padding: 0; width: 100%; }
#$key .frame img { object-fit: cover; object-position: calc(var(--stage) * 100% / $last) 0; }
#$key .state { font-size: .75rem; left: 50%; position: absolute; top: 50%;
  transform: translate(-50%, -50%); color: #fff; }
#$key[data-mode="signed"] .state { color: #000; }
</style>
<svg width="0" height="0" style="position: absolute" aria-hidden="true">$filters</svg>
<div class="controls" hidden>
<div class="stage"><label for="$key-range">Stage</label>
<input type="range" id="$key-range" min="0" max="$last" step="1" value="0" autocomplete="off"
 aria-valuetext="$first" aria-describedby="$key-caption"></div>
$switch
</div>
<output for="$key-range" aria-live="off">$first</output>
<p class="still">This is the first of the pictures. Moving through the stages needs JavaScript.</p>
<div class="tiles">
<div class="tile"><div class="screen"><img src="$picture" alt="the picture that is explained"></div>
<span>the picture</span></div>
$tiles
</div>
<figcaption id="$key-caption"><span class="caption-text">$caption</span></figcaption>
<script>
(() => {
  for (const box of document.querySelectorAll('[id="$key"]:not([data-ready])')) {
    box.dataset.ready = "";
    const words = JSON.parse(box.dataset.words);
    const range = box.querySelector('input[type="range"]');
    const tiles = [...box.querySelectorAll("[data-film]")].map(
      node => [node, JSON.parse(node.dataset.film)]);
    const show = () => {
      const stage = Number(range.value), mode = box.dataset.mode;
      box.style.setProperty("--stage", stage);
      const says =
        stage ? words[stage] + " (" + stage + " of " + (words.length - 1) + ")" : words[0];
      /* A screen reader says the value by itself; the text is for the eye, no live region. */
      range.setAttribute("aria-valuetext", says);
      box.querySelector("output").textContent = says;
      for (const [node, film] of tiles) {
        node.querySelector(".state").textContent = film.states[mode][stage];
        if (film.notes) node.querySelector(".note").textContent = film.notes[stage];
      }
    };
    range.addEventListener("input", show);
    for (const button of box.querySelectorAll('input[type="radio"]'))
      button.addEventListener("change", () => { box.dataset.mode = button.value; show(); });
    box.querySelector(".still").hidden = true;
    box.querySelector(".controls").hidden = false;
    show();
  }
})();
</script>
</figure>
""")
