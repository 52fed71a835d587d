"""Contrastive losses on normalised embeddings. Tensors in, scalars out; always computed in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(a: Tensor, b: Tensor, scale: Tensor, wrong: Tensor | None = None) -> Tensor:
    """Return the symmetric InfoNCE of paired rows (n, d): row i of ``a`` belongs to row i of ``b``.

    scale multiplies the cosines (CLIP, arXiv 2103.00020, figure 3). wrong: (n, n) bool, which rows of ``a`` are not to
    be like which of ``b``; other pairs off the diagonal count neither way. None: all are wrong.
    """
    logits = scale.float() * a.float() @ b.float().T
    if wrong is not None:
        kept = wrong | torch.eye(len(a), dtype=torch.bool, device=a.device)
        logits = logits.masked_fill(~kept, -torch.inf)
    target = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def multi_positive(a: Tensor, b: Tensor, positive: Tensor, scale: Tensor) -> Tensor:
    """Return the symmetric contrastive loss in which ``positive`` (n, m) says which rows go together.

    The positives of a row share its target evenly (L_out of SupCon, arXiv 2004.11362, equation 2); a row without any is
    left out. With the identity as ``positive`` it equals :func:`info_nce`.
    """
    logits = scale.float() * a.float() @ b.float().T
    return (_one_way(logits, positive) + _one_way(logits.T, positive.T)) / 2


def _one_way(logits: Tensor, positive: Tensor) -> Tensor:
    weight = positive.float()
    count = weight.sum(1)
    loss = -(weight * F.log_softmax(logits, 1)).sum(1) / count.clamp(min=1)
    return loss.sum() / (count > 0).sum().clamp(min=1)
