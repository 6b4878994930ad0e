"""RRL-Net: its parts, its weights, and running it. Importing the package itself loads no PyTorch."""
