"""The JSON schemas that the API serves, and the check of bodies against that of an image.

Nova, Horizon and python-glanceclient read `/v2/schemas/image`: names, types, enums and `is_base` are a contract.
"""

from collections.abc import Mapping
from typing import Any, Final

import fastjsonschema

from casimg_api.answers import send_json
from casimg_api.config import ImagesConfig
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.routes import Route

UUID_PATTERN: Final = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"

_TEXT: Final = {"type": "string"}
_TEXT_OR_NULL: Final = ["null", "string"]
_READ_ONLY: Final = {"readOnly": True}
_DESCRIBED_BY: Final = {"rel": "describedby", "href": "{schema}"}

_LOCATION: Final = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "maxLength": 255},
        "metadata": {"type": "object"},
        "validation_data": {
            "description": "Hashes of the data at the location.",
            "type": "object",
            "writeOnly": True,
            "additionalProperties": False,
            "properties": {
                "checksum": {"type": "string", "minLength": 32, "maxLength": 32},
                "os_hash_algo": {"type": "string", "maxLength": 64},
                "os_hash_value": {"type": "string", "maxLength": 128},
            },
            "required": ["os_hash_algo", "os_hash_value"],
        },
    },
    "required": ["url", "metadata"],
}

_STATUSES: Final = [
    *("queued", "saving", "active", "killed", "deleted", "uploading", "importing", "pending_delete", "deactivated"),
]

_USUAL_PROPERTIES: Final[Mapping[str, dict[str, Any]]] = {
    "kernel_id": {
        "type": _TEXT_OR_NULL,
        "pattern": UUID_PATTERN,
        "description": "Image that is the kernel when an AMI-style image is booted.",
    },
    "ramdisk_id": {
        "type": _TEXT_OR_NULL,
        "pattern": UUID_PATTERN,
        "description": "Image that is the ramdisk when an AMI-style image is booted.",
    },
    "instance_uuid": {**_TEXT, "description": "Instance that the image belongs to; for information only."},
    "architecture": {**_TEXT, "description": "Architecture of the operating system."},
    "os_distro": {**_TEXT, "description": "Common name of the operating system's distribution."},
    "os_version": {**_TEXT, "description": "Version of the operating system, as its distributor says it."},
    "description": {**_TEXT, "description": "A description of the image for people."},
    "cinder_encryption_key_id": {**_TEXT, "description": "Key with which volumes made of the image are encrypted."},
    "cinder_encryption_key_deletion_policy": {
        **_TEXT,
        "description": "When the encryption key is to be deleted.",
        "enum": ["on_image_deletion", "do_not_delete"],
    },
}
"""What Glance ships as schema-image.json; extra properties as any other, told with their types."""


def _image_properties(images: ImagesConfig) -> dict[str, dict[str, Any]]:
    base: dict[str, dict[str, Any]] = {
        "id": {**_TEXT, "description": "Id of the image.", "pattern": UUID_PATTERN},
        "name": {"type": _TEXT_OR_NULL, "description": "Name of the image for people.", "maxLength": 255},
        "status": {**_TEXT, **_READ_ONLY, "description": "Status of the image.", "enum": _STATUSES},
        "visibility": {
            **_TEXT,
            "description": "Who can see the image.",
            "enum": ["community", "public", "private", "shared"],
        },
        "protected": {"type": "boolean", "description": "If true, the image cannot be deleted."},
        "os_hidden": {"type": "boolean", "description": "If true, the image is not in lists by default."},
        "checksum": {"type": _TEXT_OR_NULL, **_READ_ONLY, "description": "md5 of the data.", "maxLength": 32},
        "os_hash_algo": {
            "type": _TEXT_OR_NULL,
            **_READ_ONLY,
            "description": "Algorithm of os_hash_value.",
            "maxLength": 64,
        },
        "os_hash_value": {
            "type": _TEXT_OR_NULL,
            **_READ_ONLY,
            "description": "Hash of the data in hexadecimal, by the algorithm os_hash_algo.",
            "maxLength": 128,
        },
        "owner": {"type": _TEXT_OR_NULL, "description": "Project that owns the image.", "maxLength": 255},
        "size": {"type": ["null", "integer"], **_READ_ONLY, "description": "Size of the data in bytes."},
        "virtual_size": {"type": ["null", "integer"], **_READ_ONLY, "description": "Size of the disk in bytes."},
        "container_format": {
            "type": _TEXT_OR_NULL,
            "description": "Format of the container.",
            "enum": [None, *images.container_formats],
        },
        "disk_format": {
            "type": _TEXT_OR_NULL,
            "description": "Format of the disk.",
            "enum": [None, *images.disk_formats],
        },
        "created_at": {**_TEXT, **_READ_ONLY, "description": "When the image was registered."},
        "updated_at": {**_TEXT, **_READ_ONLY, "description": "When the image was last changed."},
        "tags": {"type": "array", "description": "Words to find images by.", "items": {**_TEXT, "maxLength": 255}},
        "direct_url": {**_TEXT, **_READ_ONLY, "description": "Where the data is in its store."},
        "min_ram": {"type": "integer", "description": "Memory in MB that is needed to boot the image."},
        "min_disk": {"type": "integer", "description": "Disk space in GB that is needed to boot the image."},
        "self": {**_TEXT, **_READ_ONLY, "description": "URL of the image."},
        "file": {**_TEXT, **_READ_ONLY, "description": "URL of its data."},
        "stores": {**_TEXT, **_READ_ONLY, "description": "Stores that hold its data, separated by commas."},
        "schema": {**_TEXT, **_READ_ONLY, "description": "URL of this schema."},
        "locations": {"type": "array", "items": _LOCATION, "description": "Where the data is in its stores."},
    }
    return {**base, **{name: {**schema, "is_base": False} for name, schema in _USUAL_PROPERTIES.items()}}


_MEMBER: Final = {
    "name": "member",
    "properties": {
        "member_id": {**_TEXT, "description": "Project that the image is shared with."},
        "image_id": {**_TEXT, "description": "Id of the image.", "pattern": UUID_PATTERN},
        "created_at": {**_TEXT, "description": "When it was shared."},
        "updated_at": {**_TEXT, "description": "When its status was last changed."},
        "status": {**_TEXT, "description": "What the project says.", "enum": ["pending", "accepted", "rejected"]},
        "schema": {**_TEXT, **_READ_ONLY},
    },
}

_TASK_STUB: Final[dict[str, dict[str, Any]]] = {
    "id": {**_TEXT, "description": "Id of the task.", "pattern": UUID_PATTERN},
    "type": {**_TEXT, "description": "What is done.", "enum": ["import", "api_image_import", "location_import"]},
    "status": {
        **_TEXT,
        "description": "How far it is.",
        "enum": ["pending", "processing", "success", "failure"],
    },
    "owner": {**_TEXT, "description": "Project that owns the task."},
    "image_id": {**_TEXT, "description": "Image that it is about."},
    "request_id": {**_TEXT, "description": "Request that made it."},
    "user_id": {**_TEXT, "description": "User who made it."},
    "expires_at": {"type": _TEXT_OR_NULL, "description": "When it may be removed."},
    "created_at": {**_TEXT, "description": "When it was made."},
    "updated_at": {**_TEXT, "description": "When it last changed."},
    "self": {**_TEXT, **_READ_ONLY},
    "schema": {**_TEXT, **_READ_ONLY},
}
_TASK: Final = {
    "name": "task",
    "properties": {
        **_TASK_STUB,
        "input": {"type": ["null", "object"], "description": "What the task was given."},
        "result": {"type": ["null", "object"], "description": "What came of it."},
        "message": {**_TEXT, "description": "What happened, for people."},
    },
}


def _collection(name: str, item: Mapping[str, Any], *, paged: bool) -> dict[str, Any]:
    pages = {"first": _TEXT, "next": _TEXT} if paged else {}
    links = [{"rel": "first", "href": "{first}"}, {"rel": "next", "href": "{next}"}] if paged else []
    return {
        "name": name,
        "properties": {name: {"type": "array", "items": item}, **pages, "schema": _TEXT},
        "links": [*links, _DESCRIBED_BY],
    }


class Schemas:
    """The schemas of one server; any thread may use them."""

    def __init__(self, images: ImagesConfig) -> None:
        properties = _image_properties(images)
        image = {
            "name": "image",
            "properties": properties,
            "additionalProperties": {"type": "string"},
            "links": [
                {"rel": "self", "href": "{self}"},
                {"rel": "enclosure", "href": "{file}"},
                _DESCRIBED_BY,
            ],
        }
        self.documents: dict[str, Mapping[str, Any]] = {
            "image": image,
            "images": _collection("images", image, paged=True),
            "member": _MEMBER,
            "members": _collection("members", _MEMBER, paged=False),
            "task": _TASK,
            "tasks": _collection("tasks", {"name": "task", "properties": _TASK_STUB}, paged=False),
        }
        rules = {"type": "object", "properties": properties, "additionalProperties": {"type": "string"}}
        self._check = fastjsonschema.compile(rules)

    def validate_image(self, attributes: dict[str, Any]) -> None:
        """Raise 400 unless attributes are what an image's may be."""
        try:
            self._check(attributes)
        except fastjsonschema.JsonSchemaValueException as error:
            raise HttpError(400, f"Provided object does not match schema 'image': {error.message}") from None


def _show(name: str) -> Route:
    def handler(call: Call) -> None:
        send_json(call, call.services.schemas.documents[name])

    return Route("GET", f"/schemas/{name}", handler, rejects_body=not name.startswith("task"))


ROUTES: Final = tuple(_show(name) for name in ("image", "images", "member", "members", "task", "tasks"))
