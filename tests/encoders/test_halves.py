"""Batches that do not fit into a GPU's memory."""

import pytest

torch = pytest.importorskip("torch")

from geosearch.encoders.memory import in_halves  # noqa: E402
from geosearch.errors import ModelError  # noqa: E402


def test_a_batch_that_does_not_fit_is_halved_until_it_does():
    seen = []

    def run(batch):
        seen.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return 2 * batch

    batch = torch.arange(7.0)[:, None]
    assert torch.equal(in_halves(run, batch, "toy"), 2 * batch)
    assert seen == [7, 4, 2, 2, 3, 2, 1]

    def never(_):
        raise torch.OutOfMemoryError

    with pytest.raises(ModelError, match="toy: one item does not fit"):
        in_halves(never, batch, "toy")
