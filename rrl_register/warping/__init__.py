"""Resampling: a transform applied to images."""
