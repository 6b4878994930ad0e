"""How well the network tells matching patches from others: sets of patches, FPR95, tables and curves."""
