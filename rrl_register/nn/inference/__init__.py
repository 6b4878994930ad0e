"""Running the network: in integers by ONNX Runtime, or by PyTorch."""
