"""Image and nadir in one vector: concatenation, the nadir's part scaled by a learned number."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Concatenation(nn.Module):
    """Unit vectors of images (b, d) and of nadirs (b, e) → unit vectors (b, d + e), float32.

    With the scale s, the cosine of two such vectors is (cos_image + s² · cos_nadir) / (1 + s²).
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def forward(self, image: Tensor, nadir: Tensor) -> Tensor:
        """Return the concatenation at length 1; the image's numbers come first."""
        both = torch.cat([image.float(), self.log_scale.float().exp() * nadir.float()], dim=-1)
        return F.normalize(both, dim=-1)
