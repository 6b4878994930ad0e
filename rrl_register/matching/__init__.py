"""Finding corresponding places: a coarse search over the whole scene, then local ones around an estimate."""
