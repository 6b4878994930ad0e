"""Registration of many scenes: a manifest lists them, a journal records their outcomes, a summary reports them."""

from rrl_register.batch.journal import Outcome, Summary
from rrl_register.batch.manifest import BatchItem, Manifest, match_files, read_manifest
from rrl_register.batch.running import Progress, run_batch

Scene = BatchItem
"""Public name of ``BatchItem``."""

__all__ = ["Manifest", "Outcome", "Progress", "Scene", "Summary", "match_files", "read_manifest", "run_batch"]
