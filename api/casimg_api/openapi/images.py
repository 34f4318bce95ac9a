"""Operations of images, their data, members, tags and locations."""

from typing import Final

from casimg_api.http_store import ALGORITHMS
from casimg_api.listing import MEMBER_STATUSES, SORT_KEYS, VISIBILITIES
from casimg_api.openapi.operations import (
    COUNT,
    DATA,
    DONE,
    LIMIT,
    MARKER,
    OCTETS,
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
from casimg_api.patch import V20, V21

_ONE: Final = "/v2/images/{image_id}"
_STORE: Final = header("X-Image-Meta-Store", "Store to put the data into.")
_SIZE: Final = header("x-openstack-image-size", "Bytes that will come; 0 when nobody knows.")
_BASE: Final = header("x-openstack-base-image-ref", "Image that the data were made from.")
_TEXTS: Final = ("name", "status", "id", "owner", "container_format", "disk_format", "checksum", "os_hash_value")

LIST_PARAMETERS: Final = (
    LIMIT,
    MARKER,
    Parameter("sort", "Keys with their directions: `name:asc,size`. Not with sort_key and sort_dir."),
    Parameter("sort_key", "What to sort by.", several(one_of(*SORT_KEYS))),
    Parameter("sort_dir", "Upwards or downwards.", several(one_of("asc", "desc"))),
    Parameter("visibility", "Images of this visibility.", one_of(*VISIBILITIES)),
    Parameter(
        "member_status", "Of images shared with the caller, those that it answered so.", one_of(*MEMBER_STATUSES)
    ),
    Parameter("os_hidden", "Hidden images instead.", one_of("true", "false")),
    Parameter("protected", "Protected images, or others.", one_of("true", "false")),
    Parameter("tag", "Images that have all these tags.", several(TEXT)),
    *(Parameter(name, "Images of this value; `in:a,b` for one of several.") for name in _TEXTS),
    *(Parameter(name, "Bound of the size in bytes.", COUNT) for name in ("size_min", "size_max")),
    *(
        Parameter(name, "A time, after `gt:`, `gte:`, `lt:`, `lte:`, `eq:` or `neq:`.")
        for name in ("created_at", "updated_at")
    ),
)

_MADE: Final = {
    "Location": "URL of the image.",
    "OpenStack-image-import-methods": "Ways of import that are enabled.",
    "OpenStack-image-store-ids": "Stores that there are.",
}

_VALIDATION: Final = {
    "type": "object",
    "description": "Both fields, or none.",
    "properties": {"os_hash_algo": one_of(*ALGORITHMS), "os_hash_value": TEXT},
    "additionalProperties": False,
}

OPERATIONS: Final[Operations] = {
    "GET /v2/images": Operation(
        "List images, by pages. Any other field of the query is a property that images must have with its value.",
        {200: Answer("A page of images.", ref("images"))},
        parameters=LIST_PARAMETERS,
    ),
    "POST /v2/images": Operation(
        "Register an image; its data come later.",
        {201: Answer("The image.", ref("image"), headers=_MADE)},
        errors=(409, 413),
        body={"application/json": ref("new_image")},
    ),
    f"GET {_ONE}": Operation("Show an image.", {200: Answer("The image.", ref("image"))}),
    f"PATCH {_ONE}": Operation(
        "Change an image by a JSON patch of either dialect.",
        {200: Answer("The image as it is now.", ref("image"))},
        errors=(409, 413, 415),
        body={V21: ref("patch"), V20: ref("patch_v20")},
    ),
    f"DELETE {_ONE}": Operation("Delete an image.", DONE, errors=(409,)),
    f"GET {_ONE}/file": Operation(
        "The bytes of an image, or a range of them.",
        {
            200: Answer(
                "All bytes.",
                DATA,
                OCTETS,
                {"ETag": "Tag of the data.", "Accept-Ranges": "bytes", "Content-MD5": "md5 in hexadecimal."},
            ),
            204: Answer("The image has no data."),
            206: Answer("The range.", DATA, OCTETS, {"Content-Range": "Which bytes of how many."}),
            304: Answer("The client has the data already."),
        },
        errors=(416,),
        parameters=(
            header("Range", "One range of bytes."),
            header("If-Range", "Tag of the data that the range is of."),
            header("If-None-Match", "Tags of data that the client has."),
            Parameter("prefer", "Stores to read from, the best first, separated by commas."),
        ),
    ),
    f"PUT {_ONE}/file": Operation(
        "Give a queued image its data.",
        DONE,
        errors=(409, 410, 413, 415, 501),
        parameters=(_STORE, _SIZE, _BASE),
        body={OCTETS: DATA},
        body_required=False,
    ),
    f"PUT {_ONE}/stage": Operation(
        "Keep data for a queued image aside, until an import makes them its own.",
        DONE,
        errors=(409, 413, 415, 501),
        parameters=(_SIZE,),
        body={OCTETS: DATA},
        body_required=False,
    ),
    f"POST {_ONE}/import": Operation(
        "Have the image get its data in the background.",
        {202: Answer("A task does it.")},
        errors=(409, 413),
        parameters=(_STORE,),
        body={"application/json": ref("import")},
    ),
    f"GET {_ONE}/tasks": Operation(
        "What is done with an image in the background.",
        {200: Answer("Tasks.", record({"tasks": several(ref("image_task"))}))},
    ),
    f"POST {_ONE}/actions/deactivate": Operation("Let an image be downloaded no more.", DONE, errors=(409,)),
    f"POST {_ONE}/actions/reactivate": Operation("Let an image be downloaded again.", DONE, errors=(409,)),
    f"PUT {_ONE}/tags/{{tag_value}}": Operation("Tag an image.", DONE, errors=(413,)),
    f"DELETE {_ONE}/tags/{{tag_value}}": Operation("Take a tag away.", DONE),
    f"GET {_ONE}/members": Operation(
        "Projects that an image is shared with.", {200: Answer("Members.", ref("members"))}
    ),
    f"POST {_ONE}/members": Operation(
        "Share an image with a project.",
        {200: Answer("The member.", ref("member"))},
        errors=(409, 413),
        body={"application/json": record({"member": {"type": "string", "minLength": 1, "maxLength": 255}})},
    ),
    f"GET {_ONE}/members/{{member_id}}": Operation("Show a member.", {200: Answer("The member.", ref("member"))}),
    f"PUT {_ONE}/members/{{member_id}}": Operation(
        "Say what a project answers.",
        {200: Answer("The member.", ref("member"))},
        errors=(413,),
        body={"application/json": record({"status": one_of("pending", "accepted", "rejected")})},
    ),
    f"DELETE {_ONE}/members/{{member_id}}": Operation("Share an image no more with a project.", DONE),
    f"GET {_ONE}/locations": Operation(
        "Where an image's data are, for services.", {200: Answer("Locations.", several(ref("location")))}
    ),
    f"POST {_ONE}/locations": Operation(
        "Say where on a web server the data of a queued image are.",
        {202: Answer("A task looks at them.")},
        errors=(409,),
        body={"application/json": record({"url": {"type": "string"}}, more={"validation_data": _VALIDATION})},
    ),
    "DELETE /v2/stores/{store_id}/{image_id}": Operation("Delete an image's data from a store.", DONE, errors=(409,)),
}
