"""What the repository saves, and who uses how much of it: for administrators, since shared bytes tell of others.

Figures of what images share are found by walking all manifests, so one such request works at a time in each process.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from casimg.catalog import UsageRow
from casimg.results.figures import ImageUsage, ProjectUsage
from casimg.results.upkeep import UpkeepState
from casimg_api.answers import send_json
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.requests import query
from casimg_api.routes import EXTENSION, Route
from casimg_api.upkeep import rules_of
from casimg_api.views import time_text

RETRY_S: Final = 10
_walking: Final = threading.Lock()


@contextmanager
def at_work() -> Iterator[None]:
    """Walk manifests in the block, alone. Raises: HttpError 503 while another request of this process does."""
    if not _walking.acquire(blocking=False):
        raise HttpError(
            503, "Another such report is being made; try again later.", headers={"Retry-After": str(RETRY_S)}
        )
    try:
        yield
    finally:
        _walking.release()


def stats(call: Call) -> None:
    """GET stats: the figures of the repository, from the catalog alone, and what was done for it."""
    call.policy.enforce(call.caller, "casimg:get_stats", {})
    figures = call.registry.figures()
    found = figures.stats()
    send_json(
        call,
        {
            "image_count": found.image_count,
            "content_count": found.content_count,
            "chunk_count": found.chunk_count,
            "pack_count": found.pack_count,
            "virtual_size": found.virtual_size,
            "plain_size": found.plain_size,
            "unique_size": found.unique_size,
            "stored_size": found.stored_size,
            "metadata_size": found.metadata_size,
            "index_size": found.index_size,
            "unreferenced_size": found.unreferenced_size,
            "hole_ratio": round(found.hole_ratio, 3),
            "dedup_ratio": round(found.dedup_ratio, 3),
            "compression_ratio": round(found.compression_ratio, 3),
            "total_ratio": round(found.total_ratio, 3),
            **upkeep_view(figures.upkeep(rules_of(call.config.upkeep))),
        },
    )


def upkeep_view(state: UpkeepState) -> dict[str, Any]:
    """Return the last collection, the next one and the room there is; sizes in bytes."""
    last = state.last_gc
    view: dict[str, Any] | None = None
    if last is not None:
        report = last.report
        view = {
            "done_at": time_text(last.done_at),
            "reason": last.reason,
            "duration_s": round(report.duration_s, 3),
            "freed_size": max(0, report.size - report.repack_new_size),
            "content_count": report.content_count,
            "pack_count": report.pack_count,
            "waiting_count": report.waiting_count,
            # What kept it from being complete.
            "notes": [
                note
                for note in (report.disabled, report.orphans_refused, report.repack_stopped, *report.unreachable)
                if note is not None
            ],
        }
    return {
        "last_gc": view,
        "gc_running_since": _time_or_none(state.running_since),
        "gc_failed_at": _time_or_none(state.failed_at),
        "gc_failure": state.failure,
        "next_gc_at": _time_or_none(state.next_gc_at),
        "spaces": [
            {"name": space.name, "total_size": space.total_size, "free_size": space.free_size} for space in state.spaces
        ],
    }


def _time_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else time_text(moment)


def dedup(call: Call) -> None:
    """GET dedup: what each image shares and owns, and the same summed up by lineage."""
    call.policy.enforce(call.caller, "casimg:get_dedup", {})
    with at_work():
        found = call.registry.figures().usages()
    send_json(call, {"images": [image_usage_view(one) for one in found], "lineages": lineages(found)})


def lineages(found: Sequence[ImageUsage]) -> list[dict[str, Any]]:
    """Return sums over images that descend from one another, by the oldest ancestor that is known."""
    parents = {one.image.id: one.image.parent_id for one in found}
    sums: dict[str, dict[str, Any]] = {}
    for one in found:
        root, seen = one.image.id, {one.image.id}
        while (parent := parents.get(root)) is not None and parent not in seen:
            root = parent
            seen.add(root)
        usual = {"root_id": root, "image_count": 0, "size": 0, "own_size": 0, "own_stored_size": 0}
        total = sums.setdefault(root, usual)
        total["image_count"] += 1
        for name in ("size", "own_size", "own_stored_size"):
            total[name] += getattr(one, name)
    return list(sums.values())


def image_usage_view(one: ImageUsage) -> dict[str, Any]:
    """Return how an image uses the repository; sizes in bytes."""
    return {
        "image_id": one.image.id,
        "parent_id": one.image.parent_id,
        "owner": one.image.owner,
        "name": one.image.name or None,
        "size": one.size,
        "plain_size": one.plain_size,
        "unique_size": one.unique_size,
        "shared_size": one.shared_size,
        "own_size": one.own_size,
        "shared_stored_size": one.shared_stored_size,
        "own_stored_size": one.own_stored_size,
        "decode_amplification": one.decode_amplification,
    }


def usage(call: Call) -> None:
    """GET usage: what each project has, for administrators; for others what their own project has."""
    stored = dict(query(call.req)).get("stored", "false")
    if stored not in ("true", "false"):
        raise HttpError(400, "stored must be true or false")
    project = call.caller.project_id
    if not call.policy.allows(call.caller, "casimg:get_usage", {}):
        target = {} if project is None else {"project_id": project}
        call.policy.enforce(call.caller, "casimg:get_own_usage", target)
        if stored == "true":
            raise HttpError(403, "Only an administrator sees what projects share.")
        logical = {} if project is None else {project: call.registry.usage(project)}
        send_json(call, {"projects": _projects(logical, ())})
        return
    figures = call.registry.figures()
    physical: Sequence[ProjectUsage] = ()
    if stored == "true":
        with at_work():
            physical = figures.project_usages()
    send_json(call, {"projects": _projects(figures.logical_usages(), physical)})


def _projects(logical: Mapping[str, UsageRow], physical: Sequence[ProjectUsage]) -> list[dict[str, Any]]:
    """Return what projects have; one that no image names by now is in neither."""
    stored = {one.owner: one for one in physical}
    found: list[dict[str, Any]] = []
    for name, row in logical.items():
        view: dict[str, Any] = {
            "project_id": name,
            "image_count": row.image_count,
            "uploading_count": row.uploading_count,
            "size": row.size,
            "staged_size": row.staged_size,
        }
        if (one := stored.get(name)) is not None:
            view |= {
                "unique_size": one.unique_size,
                "own_size": one.own_size,
                "shared_stored_size": one.shared_stored_size,
                "own_stored_size": one.own_stored_size,
            }
        found.append(view)
    return found


ROUTES: Final = (
    Route("GET", "/stats", stats, rejects_body=True, root=EXTENSION),
    Route("GET", "/dedup", dedup, rejects_body=True, root=EXTENSION),
    Route("GET", "/usage", usage, rejects_body=True, root=EXTENSION),
)
