"""Preprocessing for fusion: bands of several sensors on one grid, patches of them, homographies of tensors."""
