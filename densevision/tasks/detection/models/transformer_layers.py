"""Transformer parts that the hybrid encoder and the decoder of D-FINE share."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MLP", "SelfAttention"]


class MLP(nn.Module):
    """Linear layers with an activation between them.

    Args:
        in_features: Features of the input.
        hidden_features: Features of every layer but the last.
        out_features: Features of the output.
        depth: Number of linear layers.
        activation: Class of the activation.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int,
        depth: int,
        activation: type[nn.Module] = nn.ReLU,
    ):
        super().__init__()
        sizes = [in_features, *[hidden_features] * (depth - 1), out_features]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Features (..., in_features) to (..., out_features)."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)

    def init_xavier(self) -> None:
        """Draws the weights of every layer from Glorot's uniform distribution."""
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.get_parameter("weight"))

    def init_zero_output(self) -> None:
        """Makes the output 0 for every input until the last layer is trained."""
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)


class SelfAttention(nn.Module):
    """Multi-head self-attention whose queries and keys carry a position embedding, and whose values do not.

    Args:
        width: Features of a token.
        heads: Number of heads; `width` is a multiple of it.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"width of attention must be a multiple of heads; width={width}, heads={heads}")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight, gain=2**-0.5)  # as nn.MultiheadAttention draws its joint matrix
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attends among tokens.

        Args:
            tokens: (B, N, width).
            positions: Position embeddings that broadcast against `tokens`.
            mask: (N, N) bool, True where row may attend to column; None for all.

        Returns:
            (B, N, width).
        """
        located = tokens + positions
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, x in ((self.query, located), (self.key, located), (self.value, tokens))
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(attended.transpose(1, 2).flatten(2))
