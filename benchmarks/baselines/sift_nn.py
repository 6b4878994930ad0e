"""SIFT (Lowe 2004), mutual nearest neighbours, MAGSAC++.

python benchmarks/baselines/sift_nn.py FIXED MOVING RESULT.json
"""

from __future__ import annotations

import cv2
import numpy as np
from command import Found, run
from features import MAX_FEATURES, Features, match_features
from images import Image

CONTRAST = 0.01
"""Below OpenCV's own threshold: images of other spectra have faint texture."""


def register(fixed: Image, moving: Image) -> Found:
    """Find a homography."""
    return match_features(_features(fixed), _features(moving))


def _features(image: Image) -> Features:
    detector = cv2.SIFT_create(MAX_FEATURES, contrastThreshold=CONTRAST)
    points, descriptors = detector.detectAndCompute(np.round(image.grey * 255).astype(np.uint8), None)
    if descriptors is None:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    return Features(np.array([point.pt for point in points], np.float32), descriptors)


if __name__ == "__main__":
    run(register, __doc__)
