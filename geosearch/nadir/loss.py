"""The multi-similarity loss with its miner (arXiv 1904.06627), in which some pairs are neither right nor wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ALPHA, BETA, BASE, EPSILON = 1.0, 50.0, 0.0, 0.1


def multi_similarity(
    vectors: Tensor,
    positive: Tensor,
    negative: Tensor,
    alpha: float = ALPHA,
    beta: float = BETA,
    base: float = BASE,
    epsilon: float | None = EPSILON,
) -> Tensor:
    """Return the loss, a scalar: the mean over anchors of equation 15 of the paper.

    vectors: (n, d), brought to length 1 here. positive, negative: (n, n) bool; a pair in neither is neutral (footprints
    that overlap but are no pair), one on the diagonal is left out. epsilon: the miner's margin (equations 11 and 12):
    negatives are kept that are more similar than the least similar positive less epsilon, positives that are less
    similar than the most similar negative plus epsilon; None keeps all. Always float32: e^50 is beyond half precision.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        unit = F.normalize(vectors.float(), dim=-1)
        similarity = unit @ unit.T
        other = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        positive, negative = positive & other, negative & other
        if epsilon is not None:
            positive, negative = mine(similarity.detach(), positive, negative, epsilon)
        right = _soft_plus_sum(-alpha * (similarity - base), positive) / alpha
        wrong = _soft_plus_sum(beta * (similarity - base), negative) / beta
        return (right + wrong).mean()


def mine(similarity: Tensor, positive: Tensor, negative: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the pairs (n, n) worth learning from. An anchor without a positive, or without a negative, has none."""
    least = similarity.masked_fill(~positive, torch.inf).min(1, keepdim=True).values
    most = similarity.masked_fill(~negative, -torch.inf).max(1, keepdim=True).values
    both = positive.any(1, keepdim=True) & negative.any(1, keepdim=True)
    return positive & both & (similarity - epsilon < most), negative & both & (similarity + epsilon > least)


def _soft_plus_sum(exponents: Tensor, kept: Tensor) -> Tensor:
    """Return log(1 + Σ exp(exponents)) over the kept of each row, (n,)."""
    padded = torch.cat([exponents.masked_fill(~kept, -torch.inf), exponents.new_zeros(len(exponents), 1)], dim=1)
    return torch.logsumexp(padded, dim=1)
