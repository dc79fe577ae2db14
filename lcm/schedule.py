"""How the learning rate runs over a training."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class WarmupCosine(LambdaLR):
    """Rises linearly to the optimiser's rate, then falls to zero along half a cosine; stepped every batch.

    Args:
        optimizer: its rate is the highest.
        total_steps: length of the training, in steps.
        warmup: share of the steps in which the rate rises.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.05) -> None:
        if total_steps < 1 or not 0 <= warmup < 1:
            raise ValueError(f"need total_steps >= 1 and 0 <= warmup < 1, found {total_steps} and {warmup}")
        rising = max(round(warmup * total_steps), 1)

        def share(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            return 0.5 * (1 + math.cos(math.pi * min((step - rising) / max(total_steps - rising, 1), 1.0)))

        super().__init__(optimizer, share)
