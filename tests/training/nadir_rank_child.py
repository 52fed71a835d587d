"""One of several processes of a run: `torchrun` starts it so, and the test does the same without torchrun."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from nadir_tiny import MEAN, STD, TINY, gradients, ground, tiny_model

from geosearch.training.nadir import learn
from geosearch.training.nadir_ranks import ranks

if __name__ == "__main__":
    torch.set_num_threads(1)
    records = []
    with ranks("cpu") as (here, device):
        first = {f"grad.{name}": value for name, value in gradients(here).items()}
        tiles, photos = ground()
        options = replace(TINY, steps=14)
        out = learn(tiny_model(), tiles, MEAN, STD, options, device, 1, None, records.append, photos=photos, ranks=here)
    facts = {f"log.{key}": [r[key] for r in records] for key in ("step", "loss", "right")}
    np.savez(
        Path(sys.argv[1]) / f"{here.rank}.npz", **facts, **first, **{k: v.numpy() for k, v in out.state_dict().items()}
    )
