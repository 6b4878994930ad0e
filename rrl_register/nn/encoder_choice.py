"""Choice between the two encoders of the network."""

from __future__ import annotations

from enum import StrEnum

from rrl_register.config import Kind


class Spectrum(StrEnum):
    """One of the two encoders."""

    VISIBLE = "visible"
    OTHER = "other"


def spectra(fixed_kind: Kind, moving_kind: Kind) -> tuple[Spectrum, Spectrum]:
    """Return the encoders of a pair: visible for the optical image; of two alike, for the fixed one."""
    if moving_kind is Kind.OPTICAL and fixed_kind is not Kind.OPTICAL:
        return Spectrum.OTHER, Spectrum.VISIBLE
    return Spectrum.VISIBLE, Spectrum.OTHER
