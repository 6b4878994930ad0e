"""Plane geometry: windows, pixel frames, transforms and tie points."""
