"""SALAD: patches of a picture, optimally shared out to clusters, become one vector (arXiv 2311.15937).

Written from the paper. Class and register tokens are no patches: towers leave them out (see `towers`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geosearch.errors import ModelError
from geosearch.nadir.shape_checks import check_count, check_patches

ITERATIONS = 3


@dataclass(frozen=True)
class SaladShape:
    """clusters m, numbers a cluster l, numbers of the global token g; the vector has m · l + g numbers."""

    clusters: int = 64
    cluster_dim: int = 128
    global_dim: int = 256
    hidden: int = 512
    dropout: float = 0.3

    def __post_init__(self) -> None:
        for name in ("clusters", "cluster_dim", "global_dim", "hidden"):
            check_count(f"salad.{name}", getattr(self, name))
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise ModelError(f"salad.dropout must be at least 0 and below 1, it is {self.dropout!r}")

    @property
    def dimension(self) -> int:
        """Numbers of the vector: m · l + g."""
        return self.clusters * self.cluster_dim + self.global_dim


# Named after the tower that each goes with in the article; "full" is SALAD's own, of 8 448 numbers.
SHAPES = {
    "small": SaladShape(24, 64, 512),
    "base": SaladShape(32, 64, 1024),
    "large": SaladShape(48, 64, 1024),
    "full": SaladShape(64, 128, 256),
}


class Salad(nn.Module):
    """Patches (b, n, channels) and a global token (b, token_channels) → unit vectors (b, dimension), float32."""

    def __init__(self, channels: int, token_channels: int, shape: SaladShape) -> None:
        super().__init__()
        self.shape = shape
        self.score = _mlp(channels, shape.hidden, shape.clusters, shape.dropout)
        self.cluster = _mlp(channels, shape.hidden, shape.cluster_dim, shape.dropout)
        self.token = _mlp(token_channels, shape.hidden, shape.global_dim, 0.0)
        self.dustbin = nn.Parameter(torch.tensor(1.0))

    def forward(self, patches: Tensor, token: Tensor) -> Tensor:
        """Return unit vectors (b, dimension). Raises ModelError where there are no more patches than clusters."""
        shared = assignment(self.score(patches), self.dustbin)
        features = self.cluster(patches).float()
        # Outside autocast: what is summed over patches must not be rounded on the way.
        with torch.autocast(patches.device.type, enabled=False):
            sums = torch.einsum("bnm,bnl->bml", shared, features)
            parts = torch.cat([F.normalize(self.token(token.float()), dim=-1), F.normalize(sums, dim=-1).flatten(1)], 1)
            return F.normalize(parts, dim=-1)


def assignment(scores: Tensor, dustbin: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Return how much of each patch goes to each cluster, (b, n, m), float32: Sinkhorn in the log domain.

    scores: (b, n, m). dustbin: a scalar, the score of belonging to no cluster. Each patch shares out 1, each cluster
    takes 1 and the dustbin n − m (section 3.2 of the paper; entropy's weight 1). Clusters are scaled first and patches
    last: sums over clusters and dustbin are exactly 1 a patch, sums over patches about 1 a cluster. Always float32:
    half precision differs by 4e-3. The dustbin's score changes nothing, since scaling it first takes a constant away;
    it is the paper's. Raises ModelError where n ≤ m, which leaves the dustbin nothing.
    """
    b, n, m = scores.shape
    check_patches(n, m)
    with torch.autocast(scores.device.type, enabled=False):
        scores = torch.cat([scores.float(), dustbin.float().expand(b, n, 1)], dim=2)
        takes = torch.zeros(m + 1, device=scores.device)
        takes[m] = torch.log(torch.tensor(float(n - m)))
        rows = torch.zeros(b, n, 1, device=scores.device)
        for _ in range(iterations):
            columns = takes - torch.logsumexp(scores + rows, dim=1, keepdim=True)
            rows = -torch.logsumexp(scores + columns, dim=2, keepdim=True)
        return torch.exp(scores + rows + columns)[:, :, :m]


def _mlp(into: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(into, hidden),
        *([nn.Dropout(dropout)] if dropout else []),
        nn.ReLU(),
        nn.Linear(hidden, out),
    )
