"""From two images to a result: register, refit, dry run."""
