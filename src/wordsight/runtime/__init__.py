"""Runs ONNX graphs, on OpenVINO or ONNX Runtime. Nothing here knows what a graph means."""
