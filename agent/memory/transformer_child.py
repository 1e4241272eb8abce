"""The process that runs a sentence-transformers model: `python -m agent.memory.transformer_child MODEL`.

Apart, because the libraries take 400 MB before any model. Reads a JSON line a request, writes a JSON line with shape
and then the vectors as 16-bit numbers. Ends with its standard input.
"""

from __future__ import annotations

import json
import os
import sys


def main(argv: list[str]) -> int:
    """Load the model, then answer until the input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the vectors

    def tell(line: dict[str, object], data: bytes = b"") -> None:
        out.write(json.dumps(line).encode() + b"\n" + data)
        out.flush()

    try:
        os.nice(5)
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(1)
        model = SentenceTransformer(argv[1], device="cpu", trust_remote_code=False)
        size = len(model.encode_query(["size"])[0])
    except Exception as error:  # noqa: BLE001 - whatever a model's files make the libraries raise, the parent is told
        tell({"problem": f"{type(error).__name__}: {error}"[:500]})
        return 1
    tell({"size": size})
    for line in sys.stdin:
        asked = json.loads(line)
        encode = model.encode_query if asked["kind"] == "query" else model.encode_document
        vectors = encode(asked["texts"], batch_size=8, normalize_embeddings=True, show_progress_bar=False)
        data = vectors.astype("<f2").tobytes()
        tell({"rows": len(asked["texts"]), "bytes": len(data)}, data)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
