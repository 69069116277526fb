"""Batch norms of networks with random weights."""

from __future__ import annotations

import torch


def randomize_norms(network: torch.nn.Module) -> torch.nn.Module:
    """Gives batch norms statistics and weights that differ from their initial values; the network in evaluation."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.7, 1.2)
            torch.nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.05)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()
