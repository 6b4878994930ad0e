"""Training on a bare machine with a GPU: packed images, runs carried in slices, schedules fitted to the time."""
