"""Phase correlation by scikit-image (Guizar-Sicairos et al. 2008) on gradient magnitudes: a translation, never refused.

python benchmarks/baselines/phase_cross_correlation.py FIXED MOVING RESULT.json

Images with pixels that hold no data go the function's masked way (Padfield 2012), which finds whole pixels only.
"""

from __future__ import annotations

import cv2
import numpy as np
from command import Found, on_one_grid, run
from images import Grey, Image
from skimage.registration import phase_cross_correlation

GRADIENT_SIGMA = 1.0
UPSAMPLE_FACTOR = 20
"""Parts of a pixel that the shift is found to."""


@on_one_grid
def register(fixed: Image, moving: Image) -> Found:
    """Find a translation."""
    masks = {}
    if not (fixed.valid.all() and moving.valid.all()):
        masks = {"reference_mask": fixed.valid, "moving_mask": moving.valid}
    images = gradient_magnitude(fixed.grey), gradient_magnitude(moving.grey)
    (down, right), _, _ = phase_cross_correlation(*images, upsample_factor=UPSAMPLE_FACTOR, **masks)
    return Found(np.array([[1, 0, right], [0, 1, down], [0, 0, 1]], float))


def gradient_magnitude(grey: Grey) -> Grey:
    """Length of the gradient, (H, W)."""
    smooth = cv2.GaussianBlur(grey, (0, 0), GRADIENT_SIGMA)
    return cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))


if __name__ == "__main__":
    run(register, __doc__)
