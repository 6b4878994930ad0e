"""RRL-Net and its parts. Importing this needs torch, and nothing that reads rasters."""

from rrl_register.nn.rrlnet import PatchFeatures, RRLNet
from rrl_register.spectrum import Spectrum

__all__ = ["PatchFeatures", "RRLNet", "Spectrum"]
