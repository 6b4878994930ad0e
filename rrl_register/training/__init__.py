"""Training of RRL-Net. Importing this needs torch and OpenCV, and nothing that reads rasters."""
