"""Evaluation of the network on patches: sets of patches, FPR95, tables and ROC curves."""
