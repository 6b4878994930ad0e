"""Registrations, their RESULT.json, and tie points in the formats of other programs."""
