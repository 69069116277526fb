"""Reproducible randomness: the random state of each epoch is a function of (seed, epoch, rank) alone.

Nothing depends on what was drawn before, so a resumed run needs no stored random state.
"""

from __future__ import annotations

import random

import numpy as np
import torch

__all__ = ["seed_everything"]


def seed_everything(seed: int, epoch: int = -1, rank: int = 0) -> None:
    """Sets the random state of Python, NumPy and torch.

    Args:
        seed: Seed of the run.
        epoch: Epoch that starts, from 0; -1 for what precedes the first one, such as weight initialization.
        rank: Rank of this process.
    """
    state = np.random.SeedSequence((seed, epoch + 1, rank)).generate_state(2)
    random.seed(int(state[0]))
    np.random.seed(int(state[0]))
    torch.manual_seed(int(state[1]))
