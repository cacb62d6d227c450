"""Parts of a picture that are switched on and off together."""

import numpy as np
import torch
from skimage.segmentation import slic
from torch import Tensor, nn

from saliency_sanity.networks.classifier import scaling_of


def superpixels(model: nn.Module, x: Tensor, count: int) -> Tensor:
    """Number the parts of one picture ``x`` ``[1, C, H, W]``, about ``count``, by SLICO.

    ``[1, 1, H, W]`` int64 from 0. Colours count as they are on screen; where the network's scaling
    is not known, the picture's smallest value is black and its largest white. Raises ValueError
    for fewer than two.
    """
    if count < 2:
        raise ValueError(f"{count} superpixels: there must be at least 2 to be told apart")
    scaling, image = scaling_of(model), x.detach()
    if scaling is None:
        low, high = image.aminmax()
        image = (image - low) / (high - low).clamp_min(1e-12)
    else:
        image = scaling.to_raw(image).clamp(0, 1)
    pixels = image[0].permute(1, 2, 0).double().cpu().numpy()
    # Grey goes as the three equal channels of a colour, so that closeness weighs as there.
    pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    # Plain SLIC makes one part of a noisy picture, for none of its colours hold together.
    found = slic(pixels, n_segments=count, start_label=0, channel_axis=-1, slic_zero=True)
    return torch.from_numpy(found).to(x.device, torch.int64)[None, None]
