"""Which of the network's two encoders an image goes through."""

from __future__ import annotations

from enum import StrEnum

from rrl_register.config import Kind


class Spectrum(StrEnum):
    """Which of the two encoders a patch goes through."""

    VISIBLE = "visible"
    OTHER = "other"


def spectra(fixed_kind: Kind, moving_kind: Kind) -> tuple[Spectrum, Spectrum]:
    """The encoders of a pair: the optical image takes the visible one; between two alike the fixed image does."""
    if moving_kind is Kind.OPTICAL and fixed_kind is not Kind.OPTICAL:
        return Spectrum.OTHER, Spectrum.VISIBLE
    return Spectrum.VISIBLE, Spectrum.OTHER
