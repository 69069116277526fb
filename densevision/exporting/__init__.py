"""Exports weights to ONNX, OpenVINO and torch.export, verifies the files, and runs them."""
