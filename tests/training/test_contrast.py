"""Losses against their definitions, written out row by row."""

import numpy as np
import torch

from geosearch.training.contrast import info_nce, multi_positive


def unit(n: int, d: int, seed: int) -> torch.Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=-1)


def supcon(a: np.ndarray, b: np.ndarray, positive: np.ndarray, scale: float) -> float:
    losses = []
    for i in range(len(a)):
        logits = scale * b @ a[i]
        log_p = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        if positive[i].any():
            losses.append(-log_p[positive[i]].mean())
    return float(np.mean(losses))


def test_info_nce_is_its_definition():
    a, b = unit(7, 5, 0), unit(7, 5, 1)
    eye = np.eye(7, dtype=bool)
    expected = (supcon(a.numpy(), b.numpy(), eye, 9.0) + supcon(b.numpy(), a.numpy(), eye, 9.0)) / 2
    assert abs(info_nce(a, b, torch.tensor(9.0)).item() - expected) < 1e-5


def test_multi_positive_is_its_definition_and_rows_without_positives_are_left_out():
    a, b = unit(6, 5, 2), unit(9, 5, 3)
    positive = torch.rand(6, 9, generator=torch.Generator().manual_seed(4)) < 0.3
    positive[2] = False
    p = positive.numpy()
    expected = (supcon(a.numpy(), b.numpy(), p, 4.0) + supcon(b.numpy(), a.numpy(), p.T, 4.0)) / 2
    assert abs(multi_positive(a, b, positive, torch.tensor(4.0)).item() - expected) < 1e-5


def test_with_one_positive_each_both_are_equal():
    a, b, scale = unit(8, 4, 5), unit(8, 4, 6), torch.tensor(20.0)
    assert torch.allclose(multi_positive(a, b, torch.eye(8, dtype=torch.bool), scale), info_nce(a, b, scale))


def test_half_precision_inputs_are_summed_in_single():
    a, b, scale = unit(64, 32, 7), unit(64, 32, 8), torch.tensor(100.0)
    assert info_nce(a.half(), b.half(), scale).dtype == torch.float32
