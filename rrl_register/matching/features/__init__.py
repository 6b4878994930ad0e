"""Features: oriented gradients, keypoints, Fourier transforms."""
