"""From tie points to a transform: fits, robust estimation and what is known about their error."""
