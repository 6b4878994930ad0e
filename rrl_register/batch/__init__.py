"""Many scenes: a manifest is worked off, a journal keeps what was done, a summary tells how it went."""

from rrl_register.batch.manifest import BatchItem, Manifest, match_files, read_manifest
from rrl_register.batch.outcome import Outcome
from rrl_register.batch.running import Progress, run_batch
from rrl_register.batch.summary import Summary

Scene = BatchItem
"""The public name of ``BatchItem``."""

__all__ = ["Manifest", "Outcome", "Progress", "Scene", "Summary", "match_files", "read_manifest", "run_batch"]
