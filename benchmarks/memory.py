"""How well and how quickly memory finds, through the product's own store and search in a fresh data folder.

    python benchmarks/memory.py [--data FOLDER] [--json FILE] [--no-model] [--set NAME ...] [--runs FOLDER]
    python benchmarks/memory.py --scale N [--data FOLDER] [--folder FOLDER] [--json FILE]

FOLDER holds sets in JSON lines (documents.jsonl, queries.jsonl); they are not part of the project. Without it the
benchmark says so and ends with success. `--runs` also writes what was found, one line a query.

`--scale` fills one memory with N texts: what the sets hold, their clauses and pairs of clauses, and sentences made
up for the purpose where these do not suffice; and compares the search with an exact scan in the same run.
`--folder` keeps the data folder, so that a second run need not embed again.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the product

import argparse
import asyncio
import gc
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil
from sqlmodel import SQLModel

import storage.tables  # noqa: F401
from agent.memory.base import MemoryScope
from agent.memory.e5.projection import commonest, sentences
from agent.memory.e5.weights import Weights, weights_file
from agent.memory.newrow import OURS
from agent.memory.parsers.chunks import Piece
from agent.memory.rows import load_pooled, some_rows
from agent.memory.store import MemoryStore, build_memory
from storage.background import Background
from storage.clock import Clock
from storage.database import SqliteDatabase, sqlite_engine

CUTS = (1, 5, 10, 20)
APART = {"adversarial"}  # asks about the wrong person: shown, but left out of the whole
COLUMNS = [f"R@{k}" for k in CUTS] + ["MRR"]
ZONE = ZoneInfo("Asia/Shanghai")
DAY_MS = 86_400_000


@dataclass
class Measured:
    """One set."""

    name: str
    model: bool
    documents: int = 0
    kept_seconds: float = 0.0
    vector_seconds: float = 0.0
    query_ms: list[float] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    resident_mb: float = 0.0


def lines(path: Path) -> Iterable[dict[str, Any]]:
    """Objects of a JSON lines file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def resident() -> float:
    """Resident memory of this process in MB."""
    return psutil.Process().memory_info().rss / 1e6


def score(ranked: list[str], gold: list[str]) -> dict[str, float]:
    """The metric: share of the gold ids among the first k, and 1 / place of the first one."""
    first, wanted = list(dict.fromkeys(ranked))[: max(CUTS)], set(gold)
    row = {f"R@{k}": len(wanted.intersection(first[:k])) / len(wanted) for k in CUTS}
    row["MRR"] = next((1 / place for place, one in enumerate(first, 1) if one in wanted), 0.0)
    return row


def mean(values: Iterable[float]) -> float:
    """In percent, to two digits, so that what is printed is what other scorers print."""
    some = list(values)
    return round(100 * sum(some) / len(some), 2) if some else 0.0


def interval(values: list[float], rounds: int = 1000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    dice = random.Random(0)
    means = sorted(mean(dice.choices(values, k=len(values))) for _ in range(rounds))
    return means[int(0.025 * rounds)], means[int(0.975 * rounds)]


def quantile(values: list[float], q: float) -> float:
    """The value below which a share `q` lies."""
    some = sorted(values)
    return some[min(len(some) - 1, int(q * len(some)))] if some else 0.0


def open_store(folder: Path, *, model: bool) -> tuple[MemoryStore, SqliteDatabase, Background]:
    """The product's store in a data folder."""
    path = folder / "db" / "zhixing.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = sqlite_engine(path, size=1)
    SQLModel.metadata.create_all(engine)
    engine.dispose()
    db, background = SqliteDatabase(path), Background()
    memory = build_memory(db, Clock(), background, folder / "index", embedder="auto" if model else "none")
    return memory, db, background


def text_of(document: dict[str, Any]) -> str:
    """What was said, with what is seen in the picture that came with it."""
    caption = document.get("caption")
    return document["text"] + (f" [shares a photo: {caption}]" if caption else "")


async def fill(memory: MemoryStore, measured: Measured, documents: list[dict[str, Any]]) -> None:
    """Keep all documents: what has a speaker as turns, what has none as pieces of a document."""
    begun = time.perf_counter()
    pieces: dict[str, list[Piece]] = {}
    section, last = 0, ""
    for n, document in enumerate(documents, 1):
        if "speaker" not in document:
            some = pieces.setdefault(document["store"], [])
            if not some or document["session"] != last:
                section, last = section + 1, document["session"]
            some.append(Piece(n, text_of(document), str(section)))
            continue
        at = datetime.fromisoformat(document["date"]).replace(tzinfo=ZONE) if "date" in document else None
        speaker = OURS if "AI" in document["speaker"] else document["speaker"]
        await memory.keep_turn(
            MemoryScope(tenant=measured.name, person=document["store"]),
            message_id=n,
            speaker=speaker,
            text=text_of(document),
            at=int(at.timestamp() * 1000) if at else n,
            session=document["session"],
            label="t2",
        )
    for store, some in pieces.items():
        await memory.keep_pieces(MemoryScope(tenant=f"{measured.name}/{store}"), 1, some)
    await memory.settle()
    measured.kept_seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    await memory.indexed()
    measured.vector_seconds = time.perf_counter() - begun


async def ask(
    memory: MemoryStore, measured: Measured, documents: list[dict[str, Any]], queries: list[dict[str, Any]]
) -> dict[str, list[str]]:
    """Put every query to its own store; gives the ids found."""
    with_speaker = {d["store"] for d in documents if "speaker" in d}
    last = {
        d["store"]: int(datetime.fromisoformat(d["date"]).replace(tzinfo=ZONE).timestamp() * 1000) + DAY_MS
        for d in documents
        if "date" in d
    }
    found: dict[str, list[str]] = {}
    for query in queries:
        store = query["store"]
        if store in with_speaker:
            scope = MemoryScope(tenant=measured.name, person=store)
        else:
            scope = MemoryScope(tenant=f"{measured.name}/{store}")
        begun = time.perf_counter()
        hits = await memory.search(scope, query["query"], limit=max(CUTS), now=last.get(store, 0))
        measured.query_ms.append((time.perf_counter() - begun) * 1000)
        ids = [hit.id for hit in hits]
        found_rows = await memory.db.read(lambda c, ids=ids: some_rows(c, ids))
        numbers = {row.id: row.message_id or int(row.place.split()[0]) for row in found_rows}
        found[query["id"]] = [documents[numbers[hit.id] - 1]["id"] for hit in hits]
        measured.rows.append({"category": query["category"], **score(found[query["id"]], query["gold"])})
    measured.resident_mb = resident()
    return found


def groups(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by category, the whole first."""
    out = {"overall": [row for row in rows if row["category"] not in APART]}
    for category in dict.fromkeys(row["category"] for row in rows):
        out[category] = [row for row in rows if row["category"] == category]
    return out


def show(m: Measured) -> None:
    """Print one set."""
    kept = m.documents / max(m.kept_seconds, 1e-9)
    speed = m.documents / max(m.kept_seconds + m.vector_seconds, 1e-9) if m.model else kept
    mode = "default embedder" if m.model else "embedder off"
    print(f"\n{m.name}: {m.documents} documents, {len(m.rows)} queries, {mode}")
    print(f"{'':14}{'n':>6} " + " ".join(f"{column:>7}" for column in COLUMNS))
    for name, some in groups(m.rows).items():
        print(f"{name:14}{len(some):>6} " + " ".join(f"{mean(r[c] for r in some):7.1f}" for c in COLUMNS))
    whole = groups(m.rows)["overall"]
    for column in ("R@10", "MRR"):
        low, high = interval([row[column] for row in whole])
        print(f"{column}: 95 % interval {low:.1f} to {high:.1f}")
    print(
        f"query p50 {quantile(m.query_ms, 0.5):.1f} ms, p95 {quantile(m.query_ms, 0.95):.1f} ms; "
        f"indexed {speed:.0f} documents/s (words alone {kept:.0f}/s); resident {m.resident_mb:.0f} MB"
    )


def as_json(m: Measured) -> dict[str, Any]:
    """The same for a file."""
    return {
        "set": m.name,
        "mode": "default embedder" if m.model else "embedder off",
        "documents": m.documents,
        "query_ms": {"p50": round(quantile(m.query_ms, 0.5), 2), "p95": round(quantile(m.query_ms, 0.95), 2)},
        "seconds": {"words": round(m.kept_seconds, 2), "vectors": round(m.vector_seconds, 2)},
        "resident_mb": round(m.resident_mb, 1),
        "scores": {
            name: {"queries": len(some), **{c: round(mean(r[c] for r in some), 2) for c in COLUMNS}}
            for name, some in groups(m.rows).items()
        },
    }


def scale_texts(data: Path, count: int) -> list[str]:
    """Distinct texts: real ones and their parts as far as they go, made-up sentences for the rest."""
    out: dict[str, None] = {}
    whole = [text_of(d) for path in sorted(data.glob("*/documents.jsonl")) for d in lines(path)]
    clauses = [[c.strip() for c in re.split(r"(?<=[.!?。！？；;，,])", t) if len(c.strip()) > 8] for t in whole]
    out.update(dict.fromkeys(whole))
    for some in clauses:
        out.update(dict.fromkeys(some))
    for some in clauses:
        out.update(dict.fromkeys(f"{a} {b}" for a, b in pairwise(some)))
    if len(out) < count:
        session = Weights(weights_file())
        latin = commonest(session.pieces, session.scores, "\u2581[a-z]{3,12}")
        chinese = commonest(session.pieces, session.scores, "[\u4e00-\u9fff]{2,4}")
        out.update(dict.fromkeys(sentences(2 * count, latin, chinese)))
    return list(out)[:count]


async def scale(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Fill one memory, then search it beside an exact scan."""
    import numpy as np

    from agent.memory.vectors import unpack_pooled

    count, scope = options.scale, MemoryScope(tenant="scale")
    texts = scale_texts(options.data, count)
    memory, db, background = open_store(folder, model=True)
    await memory.start()
    await memory.loaded()
    begun = time.perf_counter()
    for i in range(0, len(texts), 2000):
        await memory.keep_pieces(
            scope, 1, [Piece(n, texts[n], str(n // 10)) for n in range(i, min(i + 2000, len(texts)))]
        )
    filled = time.perf_counter() - begun
    begun = time.perf_counter()
    waiting = asyncio.ensure_future(memory.indexed())
    while not (await asyncio.wait([waiting], timeout=30))[0]:
        state = await memory.progress()
        print(f"  vectors {state.done} of {state.total}, graph {list(memory.large.progress.values())}", flush=True)
    await memory.search(scope, "start", limit=1)
    await memory.large.settle()
    embedded = time.perf_counter() - begun
    await memory.stop()
    db.close()
    gc.collect()

    memory, db, background = open_store(folder, model=True)
    begun = time.perf_counter()
    await memory.start()
    ready = time.perf_counter() - begun
    await memory.loaded()
    await memory.large.settle()
    loaded = time.perf_counter() - begun
    embedder = memory.embedder
    assert embedder is not None
    store = (await memory.stores_of(scope))[0]
    dice = random.Random(1)
    queries = [" ".join(t.split())[: dice.randint(12, 60)] for t in dice.sample(texts, options.queries)]
    ms: list[float] = []
    for query in queries:
        begun = time.perf_counter()
        await memory.search(scope, query, limit=20)
        ms.append((time.perf_counter() - begun) * 1000)
    rss = resident()

    rows = await db.read(lambda c: load_pooled(c, store, "documents", embedder.name))
    ids = np.array([i for i, _ in rows])
    matrix = unpack_pooled([p for _, p in rows], embedder.size)
    graph = memory.large.graph(store, "documents", embedder)
    near_ms, exact_ms, found = [], [], 0
    for query in queries:
        vector = embedder.query(query).pooled
        begun = time.perf_counter()
        likeness = matrix @ vector
        best = ids[np.argpartition(-likeness, 10)[:10]]
        exact_ms.append((time.perf_counter() - begun) * 1000)
        begun = time.perf_counter()
        got = best if graph is None else graph.near(vector, 10)[0]
        near_ms.append((time.perf_counter() - begun) * 1000)
        found += len(set(best.tolist()) & set(got.tolist()))
    await memory.stop()
    await background.stop()
    db.close()
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    index = sum(f.stat().st_size for f in (folder / "index").glob("graph-*"))
    out = {
        "memories": len(rows),
        "search_ms": {"p50": round(quantile(ms, 0.5), 1), "p95": round(quantile(ms, 0.95), 1)},
        "graph_ms": {"p50": round(quantile(near_ms, 0.5), 2), "p95": round(quantile(near_ms, 0.95), 2)},
        "exact_scan_ms": {"p50": round(quantile(exact_ms, 0.5), 1), "p95": round(quantile(exact_ms, 0.95), 1)},
        "recall_at_10_against_exact": round(found / (10 * len(queries)), 4),
        "disk_mb": round(size / 1e6, 1),
        "graph_mb": round(index / 1e6, 1),
        "start_seconds": {"ready": round(ready, 2), "with_index": round(loaded, 2)},
        "seconds": {"words": round(filled, 1), "vectors_and_graph": round(embedded, 1)},
        "resident_mb": round(rss, 1),
    }
    for name, value in out.items():
        print(f"{name:28} {value}")
    return out


async def retrieval(options: argparse.Namespace, sets: list[Path], folder: Path) -> list[Measured]:
    """All sets in one store."""
    memory, db, background = open_store(folder, model=not options.no_model)
    await memory.start()
    await memory.loaded()
    if not options.no_model and memory.embedder is None:
        sys.exit("the embedder cannot be loaded here; --no-model measures words alone")
    out = []
    for path in sets:
        documents, queries = list(lines(path / "documents.jsonl")), list(lines(path / "queries.jsonl"))
        measured = Measured(path.name, not options.no_model, len(documents))
        await fill(memory, measured, documents)
        found = await ask(memory, measured, documents, queries)
        show(measured)
        if options.runs:
            options.runs.mkdir(parents=True, exist_ok=True)
            run = "\n".join(json.dumps({"id": i, "ids": ids}) for i, ids in found.items())
            (options.runs / f"{path.name}.jsonl").write_text(run + "\n", encoding="utf-8")
        out.append(measured)
    await memory.stop()
    await background.stop()
    db.close()
    return out


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parent.parent.parent / "shared" / "data")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--no-model", action="store_true", help="words alone")
    parser.add_argument("--set", action="append", help="only this set; may be repeated")
    parser.add_argument("--runs", type=Path, help="also write what was found, one file a set")
    parser.add_argument("--folder", type=Path, help="data folder to fill or to use again; a fresh one otherwise")
    parser.add_argument("--scale", type=int, help="fill one memory with so many texts and search it")
    parser.add_argument("--queries", type=int, default=300, help="searches of --scale")
    options = parser.parse_args()
    if options.scale:
        with tempfile.TemporaryDirectory() as fresh:
            figures = asyncio.run(scale(options, options.folder or Path(fresh)))
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        return
    sets = sorted(p.parent for p in options.data.glob("*/queries.jsonl")) if options.data.is_dir() else []
    if options.set:
        sets = [path for path in sets if path.name in options.set]
    if not sets:
        print(f"skipped: no sets in {options.data}. They are not part of the project; --data names their folder.")
        return
    print("development split; figures in percent")
    with tempfile.TemporaryDirectory() as fresh:
        measured = asyncio.run(retrieval(options, sets, options.folder or Path(fresh)))
    if options.json:
        options.json.write_text(json.dumps([as_json(m) for m in measured], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
