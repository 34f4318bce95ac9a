"""From what lies on each backend to images: `recover`'s last step, and all of its steps in their order.

An image comes back with the metadata of its record with the greatest revision, on whatever backend. Its contents on
several backends are copies of one another when their trees are equal; the first whole one, in the order of the
backends, is the image's own. So where one backend lost something, the image is read from another.
"""

from collections.abc import Sequence
from functools import partial

from casimg.catalog import recover as rows
from casimg.ids import ImageId, new_session_id
from casimg.pack.keys import record_key
from casimg.progress import Progress, ProgressCallback
from casimg.recovering import BackendRebuild, FoundRecord, Rebuilt, rows_of
from casimg.results.upkeep import Problem
from casimg.wiring import Wiring

Place = tuple[BackendRebuild, FoundRecord]


def rebuild(wiring: Wiring, progress: ProgressCallback | None) -> Rebuilt:
    """Fill the new catalog and the indexes from what is on the backends; `rows.finish` is left to the caller.

    Raises: BackendUnavailableError, CatalogBusyError, NoSpaceError; then begin again with an empty catalog.
    """
    done = Rebuilt()
    session_id = new_session_id()
    wiring.catalog.transaction(partial(rows.insert_ended_session, session_id=session_id, kind="repair", opened_at=None))
    runs = [BackendRebuild(peer, session_id, done, progress) for peer in wiring.peers]
    for run in runs:
        run.take_packs()
    for run in runs:
        run.take_records()
    known = {image_id for run in runs for image_id in run.records}
    for image_id in sorted({image_id for run in runs for image_id in run.unread} - known):
        done.problems.append(Problem("image-lost", f"image {image_id} has no record that can be read"))
    for run in runs:
        run.take_contents()
    whole = _join(runs, done, progress)
    for run in runs:
        _tell_missing(run, whole)
    for run in runs:
        run.check_packs_stayed()
    return done


def _join(runs: Sequence[BackendRebuild], done: Rebuilt, progress: ProgressCallback | None) -> set[ImageId]:
    """Enter all images; returns those of which one backend has everything."""
    created = {image_id: found.created_at for run in reversed(runs) for image_id, found in run.records.items()}
    whole: set[ImageId] = set()
    for number, image_id in enumerate(sorted(created, key=lambda image_id: (created[image_id], image_id)), 1):
        places = [(run, run.records[image_id]) for run in runs if image_id in run.records]
        if _take_image(image_id, places, done):
            whole.add(image_id)
        if progress is not None:
            progress(Progress("recover", number, len(created)))
    return whole


def _take_image(image_id: ImageId, places: Sequence[Place], done: Rebuilt) -> bool:
    """Enter an image with its copies; returns whether one backend has everything of it."""
    best_run, best = max(places, key=lambda place: place[1].revision)  # of equals the first
    record = best_run.record(image_id, best.session_id)
    new, _, updated_at, members, located = rows_of(record)
    twins: list[Place] = []
    for run, found in places:
        if _data_of(run, found) == _data_of(best_run, best):
            twins.append((run, found))
        else:  # of a save that died, and whose image was stored anew
            what = f"{record_key(image_id, found.session_id)}: it is of other data, and not the newest"
            run.problem("record-differs", what, (f"{new.name or '-'} ({new.id})",), lossy=False)
    twins.sort(key=lambda place: _missing_count(*place) > 0)
    (own_run, own), *copies = twins
    own_run.wiring.catalog.transaction(
        partial(
            rows.insert_image,
            session_id=own.session_id,
            new=new,
            content_id=own.content_id or None,
            created_at=own.created_at,
            updated_at=updated_at,
            revision=best.revision,
            status=record.status,
            members=members,
            copies=[rows.NewCopy(run.wiring.backend_id, found.content_id, found.session_id) for run, found in copies],
            # A record that is behind is written anew by the next collection.
            is_behind=any(found.revision < best.revision for _, found in twins),
            located=located,
        )
    )
    done.image_count += 1
    is_whole = not _missing_count(own_run, own)
    done.damaged_image_count += not is_whole
    return is_whole


def _data_of(run: BackendRebuild, found: FoundRecord) -> tuple[object, ...]:
    """Return what records of the same data have in common; of data elsewhere each record has its own word."""
    if not found.content_id:
        return run, found.session_id
    content = run.contents[found.content_id]
    return content.size, content.trees


def _missing_count(run: BackendRebuild, found: FoundRecord) -> int:
    return run.contents[found.content_id].missing_count if found.content_id else 0


def _tell_missing(run: BackendRebuild, whole: set[ImageId]) -> None:
    """Report contents that miss something; no image loses a byte by it where another backend has all of it."""
    for content_id, found in run.contents.items():
        if found.missing_count:
            image_ids = [image_id for image_id, record in run.records.items() if record.content_id == content_id]
            what = f"{found.missing_count} chunks or nodes are in no readable pack, first {found.missing_first.hex()}"
            is_lossy = not whole.issuperset(image_ids)
            if not is_lossy:
                what += "; another backend has all of it, `casimg check --repair` brings it over"
            run.problem("chunk-lost", what, found.labels, lossy=is_lossy)
