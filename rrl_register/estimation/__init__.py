"""From tie points to a transform: robust fits, model selection, uncertainty, evidence and acceptance."""
