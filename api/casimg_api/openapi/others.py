"""Operations of tasks, caches, stores, schemas and versions, and of what Glance does not have."""

from typing import Final

from casimg.catalog.task_rows import TASK_SORT_KEYS, TASK_STATUSES
from casimg_api.extension_images import RANGE_COUNT_DEFAULT, RANGE_COUNT_MAX
from casimg_api.metadef_schemas import SCHEMAS
from casimg_api.openapi.operations import (
    ANY,
    BYTES,
    COUNT,
    DONE,
    LIMIT,
    MARKER,
    RATIO,
    SORT_DIR,
    TEXT,
    Answer,
    Operation,
    Operations,
    Parameter,
    header,
    one_of,
    record,
    ref,
    several,
)
from casimg_api.routes import EXTENSION

_IMAGE_SCHEMAS: Final = ("image", "images", "member", "members", "task", "tasks")
_STORE: Final = record({"id": TEXT}, more={"description": TEXT, "default": one_of("true"), "read-only": one_of("true")})
_STORE_DETAIL: Final = record(
    {"id": TEXT, "type": TEXT, "weight": {"type": "integer"}, "properties": ANY},
    more={"description": TEXT, "default": one_of("true"), "read-only": one_of("true")},
)
_TARGET: Final = header(
    "x-image-cache-clear-target", "What to clear; both when it is not there.", one_of("cache", "queue")
)
_VERSION: Final = record(
    {"id": TEXT, "status": one_of("CURRENT", "SUPPORTED"), "links": several(record({"rel": TEXT, "href": TEXT}))}
)
_VERSIONS: Final = record({"versions": several(_VERSION)})
_HEALTH: Final = record({"detailed": {"type": "boolean"}, "reasons": several(TEXT)})
_RANGE: Final = record({"offset": BYTES, "size": BYTES})
_NULLABLE: Final = {"type": ["null", "string"]}

IMAGE_USAGE: Final = record(
    {
        **dict.fromkeys(("image_id",), TEXT),
        **dict.fromkeys(("parent_id", "owner", "name"), _NULLABLE),
        **dict.fromkeys(("size", "plain_size", "unique_size", "shared_size", "own_size"), BYTES),
        **dict.fromkeys(("shared_stored_size", "own_stored_size"), BYTES),
        "decode_amplification": RATIO,
    }
)
_LINEAGE: Final = record(
    {"root_id": TEXT, "image_count": COUNT, **dict.fromkeys(("size", "own_size", "own_stored_size"), BYTES)}
)
_PROJECT: Final = record(
    {"project_id": TEXT, "image_count": COUNT, "uploading_count": COUNT, "size": BYTES, "staged_size": BYTES},
    more=dict.fromkeys(("unique_size", "own_size", "shared_stored_size", "own_stored_size"), BYTES),
)
_LAST_GC: Final = record(
    {
        **dict.fromkeys(("done_at", "reason"), TEXT),
        "duration_s": RATIO,
        "freed_size": BYTES,
        **dict.fromkeys(("content_count", "pack_count", "waiting_count"), COUNT),
        "notes": several(TEXT),
    }
)
_SPACE: Final = record({"name": TEXT, "total_size": BYTES, "free_size": BYTES})
_STATS: Final = record(
    {
        **dict.fromkeys(("image_count", "content_count", "chunk_count", "pack_count"), COUNT),
        **dict.fromkeys(("virtual_size", "plain_size", "unique_size", "stored_size", "metadata_size"), BYTES),
        **dict.fromkeys(("index_size", "unreferenced_size"), BYTES),
        **dict.fromkeys(("hole_ratio", "dedup_ratio", "compression_ratio", "total_ratio"), RATIO),
        "last_gc": {"oneOf": [_LAST_GC, {"type": "null"}]},
        **dict.fromkeys(("gc_running_since", "gc_failed_at", "gc_failure", "next_gc_at"), _NULLABLE),
        "spaces": several(_SPACE),
    }
)

OPERATIONS: Final[Operations] = {
    "GET /": Operation("Versions of the API.", {300: Answer("Versions.", _VERSIONS)}, is_open=True),
    "GET /versions": Operation("Versions of the API.", {200: Answer("Versions.", _VERSIONS)}, is_open=True),
    "GET /healthcheck": Operation(
        "Whether the server is in service; JSON when it is asked for.",
        {200: Answer("It is.", _HEALTH, "application/json, text/plain")},
        is_open=True,
    ),
    "GET /v2/info/import": Operation(
        "Ways of import that are enabled.",
        {200: Answer("Methods.", record({"import-methods": record({"value": several(TEXT)})}))},
    ),
    "GET /v2/info/stores": Operation(
        "Stores that there are.", {200: Answer("Stores.", record({"stores": several(_STORE)}))}
    ),
    "GET /v2/info/stores/detail": Operation(
        "Stores that there are, for administrators.",
        {200: Answer("Stores.", record({"stores": several(_STORE_DETAIL)}))},
    ),
    "GET /v2/info/usage": Operation(
        "What the project uses of the limits that Keystone has for it; sizes in MiB.",
        {
            200: Answer(
                "Usage by name of limit.",
                record(
                    {
                        "usage": {
                            "type": "object",
                            "additionalProperties": record({"usage": COUNT, "limit": {"type": "integer"}}),
                        }
                    }
                ),
            )
        },
    ),
    "GET /v2/tasks": Operation(
        "List tasks, by pages.",
        {200: Answer("A page of tasks.", ref("tasks"))},
        parameters=(
            LIMIT,
            MARKER,
            SORT_DIR,
            Parameter("sort_key", "What to sort by.", one_of(*TASK_SORT_KEYS)),
            Parameter("status", "Tasks of this status.", one_of(*TASK_STATUSES)),
            Parameter("type", "Tasks of this type.", one_of("import")),
        ),
    ),
    "POST /v2/tasks": Operation(
        "Make a task that imports an image from a URL.",
        {201: Answer("The task.", ref("task"), headers={"Location": "URL of the task."})},
        errors=(409, 413),
        body={
            "application/json": record(
                {
                    "type": one_of("import"),
                    "input": record({"import_from": TEXT, "import_from_format": TEXT, "image_properties": ANY}),
                }
            )
        },
    ),
    "GET /v2/tasks/{task_id}": Operation("Show a task.", {200: Answer("The task.", ref("task"))}),
    "DELETE /v2/tasks/{task_id}": Operation("Never allowed: tasks go by themselves.", {}, errors=(405,)),
    "GET /v2/cache": Operation(
        "Images in the cache of this server, and those that wait.",
        {200: Answer("Images.", record({"cached_images": several(ANY), "queued_images": several(TEXT)}))},
    ),
    "DELETE /v2/cache": Operation("Empty the cache.", DONE, parameters=(_TARGET,)),
    "PUT /v2/cache/{image_id}": Operation("Have an image cached soon.", {202: Answer("It waits.")}),
    "DELETE /v2/cache/{image_id}": Operation("Take an image out of the cache.", DONE),
    "GET /v2/cache/nodes/{image_id}": Operation(
        "Servers that have an image cached.", {200: Answer("Their names.", several(TEXT))}, errors=(409,)
    ),
    "POST /v2/cache/clean": Operation("Remove what the cache left behind.", {200: Answer("Done."), **DONE}),
    "POST /v2/cache/prune": Operation(
        "Make the cache as small as it should be.",
        {200: Answer("What went.", record({"total_files_pruned": COUNT, "total_bytes_pruned": BYTES}))},
    ),
    **{
        f"GET /v2/schemas/{name}": Operation(f"The schema {name}.", {200: Answer("A JSON schema.", ANY)})
        for name in _IMAGE_SCHEMAS
    },
    **{
        f"GET /v2/schemas/metadefs/{name}": Operation(f"The schema {name}.", {200: Answer("A JSON schema.", ANY)})
        for name in SCHEMAS
    },
    # ours
    f"GET {EXTENSION}/openapi.json": Operation("This description.", {200: Answer("OpenAPI 3.1.", ANY)}),
    f"POST {EXTENSION}/images/{{image_id}}/snapshot": Operation(
        "Make an image of the data of an active one, at once.",
        {201: Answer("The new image.", ref("image"), headers={"Location": "URL of the image."})},
        errors=(409, 413),
        body={"application/json": ref("new_snapshot")},
    ),
    f"GET {EXTENSION}/images/{{image_id}}/diff": Operation(
        "Where another image differs from this one, by pages of ranges.",
        {
            200: Answer(
                "Ranges.",
                record(
                    {
                        **dict.fromkeys(("image_id", "other_id"), TEXT),
                        **dict.fromkeys(("size", "other_size", "same_size", "different_size"), BYTES),
                        "only_in_other_size": BYTES,
                        "ranges": several(_RANGE),
                        "first": TEXT,
                    },
                    more={"next": TEXT},
                ),
            )
        },
        errors=(409,),
        parameters=(
            Parameter("other", "Id of the other image.", {"type": "string", "format": "uuid"}, required=True),
            Parameter(
                "limit",
                f"Ranges at most; {RANGE_COUNT_DEFAULT} when it is not given.",
                {"type": "integer", "minimum": 0, "maximum": RANGE_COUNT_MAX},
            ),
            Parameter("marker", "Ranges after this offset.", COUNT),
        ),
    ),
    f"GET {EXTENSION}/images/{{image_id}}/usage": Operation(
        "What an image shares with others, and what deleting it would give back.",
        {200: Answer("Sizes.", ref("image_usage"))},
        errors=(409,),
    ),
    f"GET {EXTENSION}/stats": Operation("The figures of the repository.", {200: Answer("Figures.", _STATS)}),
    f"GET {EXTENSION}/dedup": Operation(
        "What every image shares and owns, and sums by lineage.",
        {200: Answer("Sizes.", record({"images": several(ref("image_usage")), "lineages": several(_LINEAGE)}))},
    ),
    f"GET {EXTENSION}/usage": Operation(
        "What each project has; for others than administrators what their own has.",
        {200: Answer("Sizes.", record({"projects": several(_PROJECT)}))},
        parameters=(Parameter("stored", "Also what is stored for each, for administrators.", one_of("true", "false")),),
    ),
}
