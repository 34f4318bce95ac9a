"""The sections of the report, each from the results it is about; missing results leave a sentence, not a gap."""

from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.report.glance import glance_section
from benchmarks.report.goals import verdicts
from benchmarks.report.results import OURS, Results, Row, is_dedup, number, rows_of
from benchmarks.report.tables import escape, format_value, markdown, table, title_of

EXPECTED: Final = {
    "peers": "peers beside casimg",
    "chunkers": "chunkers and chunk sizes",
    "micro": "inner loops beside their limits",
    "limits": "put and get beside the bare pipeline",
    "growth": "put, get, gc and memory as an image grows",
    "growth_images": "one more image in a repository with many",
    "growth_index": "the index as it grows",
    "snapshot": "snapshots as the disk grows",
    "generations": "many generations of one disk",
    "random_reads": "random reads",
    "small_images": "many small images",
    "servers": "WSGI servers under the HTTP service",
    "glance": "casimg beside Glance",
}
"""Result files that the report knows, and what they are about."""

_OWN_SECTIONS: Final = ("peers", "chunkers", "micro", "glance")
_NO_STAGE: Final = "-"  # of a peer that could not even begin
_REMARK_MAX: Final = 120

Plots = Mapping[str, Sequence[str]]

_STAGES: Final = {
    "A": "the first image of an instance, into an empty store",
    "B": "the next generation of the same disk",
    "B2": "the same file again",
    "B2-": "the same bytes again, from standard input",
    "B3": "the generation after it",
    "C": "all other raw images",
    "D": "containers of two goldens: qcow2, zlib, zstd, VMDK",
    "R": "restore B to a file",
    "S": "restore all raw images",
    "A+B+C": "sums of all raw images; bytes stored are those after C",
}
"""What stages mean; `stages` in the settings of peers.json says more, and has the last word."""

_HEAD: Final = """# Benchmarks

Made by `python -m benchmarks.report` from the files in `results/` alone; no number here is typed by hand.
"""

_RUN: Final = """## Run them yourself

    make bench          # everything, on the full family of images: hours, and tens of GiB of disk
    make bench-small    # the same on small images, into .bench/: minutes; this file stays as it is
    make bench-peers    # the peers only
    make bench-glance   # casimg beside Glance's released package: ten minutes
    python -m benchmarks.suite --only chunkers micro
    python -m benchmarks.chunkers my-image.raw another.raw

The last one compares chunkers and chunk sizes on your own images.

What is fair, and what is not:

- Everybody gets the same files on the same file system, by turns. A file to store is in the page cache, and what was
  written before is on the disk. Wall and CPU are those of the whole process tree. Bytes stored are blocks of disk,
  everything below the store; what can be deleted at any time without a loss is `index`.
- Every restore is compared with the original; a run that gave other bytes, or failed, counts for nobody.
- Levels of compression are each program's own; the note of a peer says what is not its default.
- Durability differs: casimg syncs packs and its catalog before it says that an image is stored. Some peers leave that
  to the kernel, which makes them look faster than they would be at the same promise. `sync` is what a sync right after
  the command took: at the same promise, a peer takes the sum of both.
- Some peers encrypt or authenticate everything they store, which costs them time. casimg does not encrypt.
- cp, zstd and qemu-img do not deduplicate. They are here for scale, and no goal is against them.
"""


def report(results: Results, plots: Plots) -> str:
    """Return the whole report as Markdown."""
    parts = [
        _HEAD,
        _machine_section(results),
        _goals(results),
        _peers(results, plots),
        _chunkers(results, plots),
        _micro(results),
        glance_section(results),
    ]
    parts += [_generic(results, plots, name) for name in EXPECTED if name not in _OWN_SECTIONS]
    parts += [_generic(results, plots, name) for name in results if name not in EXPECTED]
    parts += [_missing(results), _RUN, _origin(results)]
    return "\n".join(part.rstrip() + "\n" for part in parts if part)


def _goals(results: Results) -> str:
    said = {True: "met", False: "**not met**", None: "not measured"}
    cells = [[verdict.what, verdict.measured, verdict.goal, said[verdict.met]] for verdict in verdicts(results)]
    return "## Goals\n\n" + table(("what", "measured", "goal", ""), cells, (False,) * 4)


def _peers(results: Results, plots: Plots) -> str:
    rows = rows_of(results, "peers")
    if not rows:
        return ""
    parts = ["## Peers\n\nRatios are to casimg: 2.0 is twice as long, or twice as large.\n"]
    parts += [_peer_table(rows), _images(plots, "peers")]
    told = results["peers"].settings.get("stages")
    meanings = {**_STAGES, **(told if isinstance(told, dict) else {})}
    for stage in dict.fromkeys(str(row.get("stage", "")) for row in rows):
        if stage != _NO_STAGE:
            meaning = f": {meanings[stage]}" if stage in meanings else ""
            parts.append(f"### {stage}{meaning}\n\n{_stage_table([row for row in rows if row.get('stage') == stage])}")
    return "\n".join(part for part in parts if part)


def _peer_table(rows: Sequence[Row]) -> str:
    """Who they are, once each; and why those who could not run did not."""
    cells = []
    for peer in dict.fromkeys(str(row.get("peer", "")) for row in rows):
        of_peer = [row for row in rows if str(row.get("peer", "")) == peer]
        said = {key: next((str(row[key]) for row in of_peer if row.get(key)), "") for key in ("version", "note")}
        failed = next((str(row["error"]) for row in of_peer if row.get("stage") == _NO_STAGE and row.get("error")), "")
        note = ". ".join(part for part in (failed, said["note"]) if part)
        cells.append([escape(peer), _kind(peer), escape(said["version"]), escape(note)])
    return table(("peer", "", "version", "note"), cells, (False,) * 4)


def _kind(peer: str) -> str:
    return "this project" if peer.startswith(OURS) else "deduplicates" if is_dedup(peer) else "does not deduplicate"


def _stage_table(rows: Sequence[Row]) -> str:
    ours: Row = next((row for row in rows if row.get("peer") == OURS), {})
    shown = []
    for row in rows:
        columns: dict[str, object] = {"peer": row.get("peer", "")}
        for key, ratio in (("wall_s", "wall ratio"), ("cpu_s", "CPU ratio"), ("stored_size", "stored ratio")):
            columns[key] = number(row, key)
            columns[ratio] = _ratio(row, ours, key)
        columns |= {key: number(row, key) for key in ("sync_s", "index_size", "rss_peak", "rss_anon_peak", "runs")}
        different = "FAILED: other bytes came back" if row.get("equal") is False else ""
        # The last line of what a program said is nearly always why; all of it is in the result file.
        why = str(row.get("error") or different or row.get("left_out") or "").strip().splitlines()
        columns["remark"] = why[-1][:_REMARK_MAX] if why else ""
        shown.append(columns)
    return markdown(shown)


def _ratio(row: Row, ours: Row, key: str) -> float | None:
    value, own = number(row, key), number(ours, key)
    return value / own if value is not None and own else None


def _chunkers(results: Results, plots: Plots) -> str:
    rows = rows_of(results, "chunkers")
    if not rows:
        return ""
    settings = results["chunkers"].settings
    first = rows[0]
    lines = [
        "## Chunkers\n",
        f"{format_value('plain_size', first.get('plain_size'))} of data and "
        f"{format_value('hole_size', first.get('hole_size'))} of holes, in this order: "
        f"{format_value('images', settings.get('images'))}. Cut by {settings.get('cut_by', '?')}.\n\n"
        "`alone` is each unique chunk compressed by itself, `frames` the new chunks of a 4 MiB segment in frames of at "
        "most 256 KiB, which is what casimg stores. `index` is estimated from the unique chunks; `manifest` is leaves "
        "before compression. `cut` is data per second of CPU of one thread, just read, with the zero scan. Every cut "
        "begins anew after a hole and at each segment, so `fixed` chunks are not aligned to their own size.",
    ]
    for what in ("alone", "frames"):
        count = number(first, f"{what}_every_count") or 1
        if count > 1:
            lines.append(
                f"`{what}` is sampled: one segment in {count:.0f} was compressed, and its bytes scaled to all."
            )
    hidden = ("plain_size", "hole_size", "alone_every_count", "frames_every_count")
    columns = [key for key in first if key not in hidden]
    return "\n".join([*lines, "", markdown(rows, columns), _images(plots, "chunkers")])


def _micro(results: Results) -> str:
    rows = rows_of(results, "micro")
    if not rows:
        return ""
    cells = [
        [
            escape(str(row.get("case", ""))),
            format_value("speed_gb_s", row.get("speed_gb_s")) or f"{format_value('each_us', row.get('each_us'))} each",
            "" if number(row, "limit_ratio") is None else f"{number(row, 'limit_ratio'):.0%}",
            escape(str(row.get("limit", ""))),
        ]
        for row in rows
    ]
    head = (
        "## Inner loops beside their limits\n\nCPU time of one thread, medians of rounds by turns. A limit does the "
        "least that any program must do for the same: 100 % is as fast as can be.\n\n"
    )
    return head + table(("case", "speed", "of the limit", "limit"), cells, (False, True, True, False))


def _generic(results: Results, plots: Plots, name: str) -> str:
    rows = rows_of(results, name)
    if not rows:
        return ""
    title = EXPECTED.get(name, name.replace("_", " "))
    settings = {key: value for key, value in results[name].settings.items() if isinstance(value, str | int | float)}
    said = ", ".join(f"{key.replace('_', ' ')} {format_value(key, value)}" for key, value in settings.items())
    parts = [f"## {title[0].upper()}{title[1:]}\n", f"Settings: {said}.\n" if said else "", markdown(rows)]
    return "\n".join(part for part in [*parts, _images(plots, name)] if part)


def _images(plots: Plots, name: str) -> str:
    return "".join(f"![{EXPECTED.get(name, name)}](plots/{file})\n" for file in plots.get(name, ()))


def _missing(results: Results) -> str:
    missing = [f"- {what} (`{name}.json`)" for name, what in EXPECTED.items() if not rows_of(results, name)]
    return "## Not measured\n\n" + "\n".join(missing) + "\n" if missing else ""


def _machines(results: Results) -> list[str]:
    """Return the machines of the results in words, each once; the load is of a run, not of a machine."""
    return list(dict.fromkeys(_machine(result.machine) for result in results.values()))


def _machine(machine: Mapping[str, object]) -> str:
    facts = {key: value for key, value in machine.items() if key != "load_average"}
    return "; ".join(f"{title_of(key)} {format_value(key, value)}" for key, value in facts.items())


def _machine_section(results: Results) -> str:
    listed = "\n".join(f"{place}. {machine}" for place, machine in enumerate(_machines(results), 1))
    return f"## Machine\n\n{listed}\n" if listed else ""


def _origin(results: Results) -> str:
    """Where each result comes from."""
    if not results:
        return ""
    machines = _machines(results)
    cells = [
        [
            f"`{name}.json`",
            str(1 + machines.index(_machine(result.machine))),
            result.made_at,
            escape(result.commit),
            f"`{escape(result.command)}`",
            format_value("load", result.machine.get("load_average")),
        ]
        for name, result in results.items()
    ]
    heads = ("result", "machine", "made at", "commit", "command", "load before")
    return "## Where the results come from\n\n" + table(heads, cells, (False,) * 5 + (True,))
