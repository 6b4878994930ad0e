"""Tie points and results in the formats of other programs, and the way back."""
