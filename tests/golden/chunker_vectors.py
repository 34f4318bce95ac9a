"""Golden cuts: inputs made from a seed, and what every implementation must make of them, for ever.

python chunker_vectors.py inputs      lines for `native/build/check golden`
python chunker_vectors.py compare     hold its answers on standard input against the golden file
python chunker_vectors.py write       make the golden file from the Python twin (frozen since format version 1)
"""

import json
import sys
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).with_name("chunker_vectors.json")
KINDS = ("mincdc", "fastcdc", "fixed")
HOLE_FLAG = 1 << 31
_MASK = (1 << 64) - 1


def cases() -> list[dict[str, Any]]:
    """Return the golden inputs: chunker, sizes, seed, length, and a range of zeros."""
    found: list[dict[str, Any]] = []
    for kind in KINDS:
        for avg in (4096, 16384, 65536):
            for number, (size, zeros) in enumerate(
                [
                    (0, (0, 0)),
                    (1, (0, 0)),
                    (avg, (0, 0)),
                    (300_000, (0, 0)),
                    (300_000, (50_000, 120_001)),
                    (8192, (0, 8192)),
                ]
            ):
                low, high = {"mincdc": (avg // 2, avg * 3 // 2), "fastcdc": (avg // 4, avg * 4), "fixed": (avg, avg)}[
                    kind
                ]
                found.append(
                    {
                        "kind": kind,
                        "min": low,
                        "avg": avg,
                        "max": high,
                        "seed": avg + number,
                        "size": size,
                        "zeros": zeros,
                    }
                )
    return found


def content(case: dict[str, Any]) -> bytes:
    """Return the bytes of a case: splitmix64 of the seed, little-endian, then a range made zero."""
    state, words = case["seed"], []
    for _ in range(-(-case["size"] // 8)):
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        words.append((z ^ (z >> 31)).to_bytes(8, "little"))
    data = bytearray(b"".join(words)[: case["size"]])
    start, end = case["zeros"]
    data[start:end] = bytes(len(data[start:end]))
    return bytes(data)


def digest(entries: list[int]) -> str:
    """Return FNV-1a over the entries, 32 bits at a time."""
    h = 0xCBF29CE484222325
    for entry in entries:
        h = ((h ^ entry) * 0x100000001B3) & _MASK
    return f"{h:016x}"


def _compare(need_neon: bool) -> None:
    golden = json.loads(GOLDEN.read_text())
    answers = [line.split() for line in sys.stdin]
    per_case = len(answers) // len(golden)
    implementations = {answer[0] for answer in answers}
    if not answers or len(answers) != per_case * len(golden) or (need_neon and "3" not in implementations):
        sys.exit(f"{len(answers)} answers of implementations {sorted(implementations)} for {len(golden)} cases")
    for number, (_, count, found) in enumerate(answers):
        case = golden[number // per_case]
        if int(count) != case["count"] or found != case["digest"]:
            sys.exit(f"case {number // per_case} differs: {case}")
    print(f"{len(golden)} cases, {per_case} implementations, all as frozen")


def _write() -> None:
    from casimg.chunker import ChunkerParams, open_chunker

    rows = []
    for case in cases():
        entries = open_chunker(ChunkerParams.of(case["kind"], case["avg"]), "python").cut_segment(content(case))
        rows.append({**case, "count": len(entries), "digest": digest(entries), "first": entries[:4]})
    GOLDEN.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    if sys.argv[1] == "inputs":
        for item in cases():
            print(
                KINDS.index(item["kind"]),
                item["min"],
                item["avg"],
                item["max"],
                item["seed"],
                item["size"],
                *item["zeros"],
            )
    elif sys.argv[1] == "compare":
        _compare("--need-neon" in sys.argv)
    elif sys.argv[1] == "write":
        _write()
