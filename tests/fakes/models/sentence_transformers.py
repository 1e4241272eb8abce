"""Stands in for sentence-transformers: vectors of hashed words. `…/dies` ends with its fourth request."""

import os
import time
import zlib

import numpy as np

SIZE = 64


class SentenceTransformer:
    """As much of the real one's interface as is used."""

    def __init__(self, name: str, **more: object) -> None:
        if "broken" in name:
            raise OSError(f"{name} is not a model")
        print("loading", name)  # as libraries do
        self.dies, self.slow, self.asked = name.endswith("dies"), name.endswith("slow"), 0

    def encode_document(self, texts: list[str], **more: object) -> np.ndarray:
        self.asked += 1
        if self.dies and self.asked == 4:
            os._exit(9)
        if self.slow:
            time.sleep(1.5)
        out = np.full((len(texts), SIZE), 0.01, np.float32)
        for row, text in enumerate(texts):
            for word in [*text.lower().split(), *text]:
                out[row, zlib.crc32(word.encode()) % SIZE] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    encode_query = encode_document
