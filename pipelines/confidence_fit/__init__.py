"""Fitting the confidence to registrations with known answers."""
