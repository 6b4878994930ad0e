"""Files in and out: grids, reading, radiometry, writing. With ``warping``, the only code that touches image files."""
