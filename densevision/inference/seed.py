"""Same seed, same numbers: the random state of each epoch is a function of (seed, epoch, process) alone.

As nothing depends on what was drawn before, resuming needs no stored random state.
"""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(seed: int, epoch: int = -1, rank: int = 0) -> None:
    """Sets the random state of Python, NumPy and torch.

    Args:
        seed: The run's seed.
        epoch: The epoch that starts; -1 for what precedes the first, such as building weights.
        rank: Number of this process.
    """
    state = np.random.SeedSequence((seed, epoch + 1, rank)).generate_state(2)
    random.seed(int(state[0]))
    np.random.seed(int(state[0]))
    torch.manual_seed(int(state[1]))
