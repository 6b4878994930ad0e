"""Elastix (Klein et al. 2010): mutual information, multi-resolution, affine.

python benchmarks/baselines/elastix_mi.py FIXED MOVING RESULT.json

itk-elastix's own affine settings but for masks and more resolutions, iterations and samples. Starts from the images as
they lie. It gives no verdict: whatever it ends with counts as found, unless it gives up
itself or what it found mirrors the image or changes its area more than fourfold.
"""

from __future__ import annotations

import itk
import numpy as np
from command import Found, on_one_grid, run
from images import Image, Matrix

RESOLUTIONS = 5
ITERATIONS = 500
SAMPLES = 4096
MAX_AREA_CHANGE = 4.0


@on_one_grid
def register(fixed: Image, moving: Image) -> Found:
    """Find an affine transform."""
    try:
        matrix = np.linalg.inv(_affine(fixed, moving))
    except RuntimeError as error:
        return Found(None, reason=f"elastix gave up: {str(error).strip().splitlines()[-1]}")
    area = np.linalg.det(matrix[:2, :2])
    if not 1 / MAX_AREA_CHANGE < area < MAX_AREA_CHANGE:
        return Found(None, reason=f"elastix changed the area by {area:.2g}")
    return Found(matrix)


def _affine(fixed: Image, moving: Image) -> Matrix:
    """Run elastix; return its transform (3, 3), fixed -> moving, the direction of its transforms."""
    _, found = itk.elastix_registration_method(
        itk.image_from_array(fixed.grey),
        itk.image_from_array(moving.grey),
        parameter_object=_parameters(),
        fixed_mask=itk.image_from_array(fixed.valid.astype(np.uint8)),
        moving_mask=itk.image_from_array(moving.valid.astype(np.uint8)),
        log_to_console=False,
    )
    values = found.GetParameterMap(0)
    parameters = np.array(values["TransformParameters"], float)
    centre = np.array(values["CenterOfRotationPoint"], float)
    linear = parameters[:4].reshape(2, 2)
    # ITK turns about the centre: linear (x - centre) + centre + shift.
    return np.vstack([np.c_[linear, centre + parameters[4:] - linear @ centre], [0, 0, 1]])


def _parameters() -> itk.ParameterObject:
    parameters = itk.ParameterObject.New()
    affine = parameters.GetDefaultParameterMap("affine", RESOLUTIONS)
    affine["MaximumNumberOfIterations"] = [str(ITERATIONS)]
    affine["NumberOfSpatialSamples"] = [str(SAMPLES)]
    affine["WriteResultImage"] = ["false"]
    parameters.AddParameterMap(affine)
    return parameters


if __name__ == "__main__":
    run(register, __doc__)
