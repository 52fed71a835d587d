"""The small byte-pair tokenizer of a model folder: its own list of merges instead of CLIP's 48 894.

The format is CLIP's: vocabulary = 256 bytes, 256 bytes at a word's end, the merges, then the start and the end token,
so the end token has the highest id, which is where CLIP's text tower reads its answer (`argmax`).
The file is CLIP's too: gzip, one header line, one merge a line. Byte-pair encoding: Sennrich et al., arXiv 1508.07909.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geosearch.errors import ModelError

KEY = "geosearch_tokenizer"  # in open_clip_config.json: {"merges": "merges.txt.gz", "context_length": 32}


def load_tokenizer(folder: Path, config: dict[str, Any]) -> Any:
    """Return the tokenizer that a model folder's configuration names; ModelError if it does not fit the model."""
    from open_clip import SimpleTokenizer

    wanted, text_cfg = config[KEY], config["model_cfg"]["text_cfg"]
    merges = folder / Path(str(wanted.get("merges", ""))).name
    if not merges.is_file():
        raise ModelError(f"{folder}: the tokenizer's file {wanted.get('merges')!r} is not in the folder; copy it there")
    context = int(wanted.get("context_length", text_cfg.get("context_length", 77)))
    try:
        tokenizer = SimpleTokenizer(bpe_path=str(merges), context_length=context)
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise ModelError(f"{merges}: cannot be read as gzip text ({error}); copy it again") from error
    vocabulary = int(text_cfg.get("vocab_size", 49408))
    if tokenizer.vocab_size != vocabulary or tokenizer.eot_token_id != vocabulary - 1:
        raise ModelError(
            f"{merges}: makes {tokenizer.vocab_size} tokens with the end token {tokenizer.eot_token_id}, the model has "
            f"{vocabulary} and needs the last as its end; the folder mixes two models"
        )
    if context != int(text_cfg.get("context_length", 77)):
        raise ModelError(f"{folder}: the tokenizer's context_length {context} is not the model's")
    return tokenizer
