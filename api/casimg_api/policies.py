"""Glance's policy rules with their defaults, by name. Pure.

Names and defaults are a contract: operators override them in a policy file. Source: Glance 33, `glance/policies/`, with
`enforce_new_defaults`.
"""

from collections.abc import Mapping
from typing import Final

_ADMIN = "rule:context_is_admin"
_OWN = "project_id:%(project_id)s"
_MEMBER = f"role:member and {_OWN}"
_READER = f"role:reader and {_OWN}"
_SHARED_TO = "project_id:%(member_id)s"
_OPEN = f"{_SHARED_TO} or 'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s"

_ADMIN_OR_MEMBER = f"{_ADMIN} or ({_MEMBER})"
_ADMIN_OR_READER = f"{_ADMIN} or ({_READER})"
_SEE = f"{_ADMIN} or (role:reader and ({_OWN} or {_OPEN}))"
_FETCH = f"{_ADMIN} or (role:member and ({_OWN} or {_OPEN}))"
_SEE_MEMBERS = f"{_ADMIN} or role:reader and ({_OWN} or {_SHARED_TO})"
_SEE_NAMESPACE = f"{_ADMIN} or (role:reader and ({_OWN} or 'public':%(visibility)s))"

_METADEF_READ: Final = (
    "get_metadef_namespace",
    "get_metadef_object",
    "get_metadef_objects",
    "list_metadef_resource_types",
    "get_metadef_resource_type",
    "get_metadef_property",
    "get_metadef_properties",
    "get_metadef_tag",
    "get_metadef_tags",
)
_METADEF_WRITE: Final = (
    "modify_metadef_namespace",
    "add_metadef_namespace",
    "delete_metadef_namespace",
    "modify_metadef_object",
    "add_metadef_object",
    "delete_metadef_object",
    "add_metadef_resource_type_association",
    "remove_metadef_resource_type_association",
    "modify_metadef_property",
    "add_metadef_property",
    "remove_metadef_property",
    "modify_metadef_tag",
    "add_metadef_tag",
    "add_metadef_tags",
    "delete_metadef_tag",
    "delete_metadef_tags",
)

UNSCOPED: Final = frozenset({"default", "context_is_admin", "service_api", "metadef_default", "metadef_admin"})
"""Rules that other rules refer to: they hold for tokens of any scope; all others for those of a project alone."""

ANONYMOUS: Final = frozenset({"get_images", "get_image", "download_image", "download_from_store"})
"""Rules that callers without a token pass, for public images; all others refuse them, whatever a policy file says."""

DEFAULTS: Final[Mapping[str, str]] = {
    "default": "",
    "context_is_admin": "role:admin",
    "service_api": "role:service or role:admin",
    "metadef_default": "",
    "metadef_admin": _ADMIN,
    # images
    "add_image": f"{_ADMIN} or ({_MEMBER} and project_id:%(owner)s)",
    "delete_image": _ADMIN_OR_MEMBER,
    "get_image": _SEE,
    "get_images": _ADMIN_OR_READER,
    "modify_image": _ADMIN_OR_MEMBER,
    "publicize_image": _ADMIN,
    "communitize_image": _ADMIN_OR_MEMBER,
    "download_image": _FETCH,
    "download_from_store": _FETCH,
    "upload_image": _ADMIN_OR_MEMBER,
    "deactivate": _ADMIN_OR_MEMBER,
    "reactivate": _ADMIN_OR_MEMBER,
    "copy_image": _ADMIN,
    # locations
    "delete_image_location": _ADMIN,
    "get_image_location": _ADMIN_OR_READER,
    "set_image_location": _ADMIN_OR_MEMBER,
    "add_image_location": f"rule:service_api or ({_MEMBER} and project_id:%(owner)s)",
    "fetch_image_location": "rule:service_api",
    # members
    "add_member": _ADMIN_OR_MEMBER,
    "delete_member": _ADMIN_OR_MEMBER,
    "get_member": _SEE_MEMBERS,
    "get_members": _SEE_MEMBERS,
    "modify_member": f"{_ADMIN} or (role:member and {_SHARED_TO})",
    # cache, stores, tasks
    "manage_image_cache": _ADMIN,
    "list_cached_nodes": _ADMIN,
    "cache_image": _ADMIN,
    "cache_list": _ADMIN,
    "cache_delete": _ADMIN,
    "cache_clean": _ADMIN,
    "cache_prune": _ADMIN,
    "stores_info_detail": f"{_ADMIN} or rule:service_api",
    "get_task": "rule:default",
    "get_tasks": "rule:default",
    "add_task": "rule:default",
    "modify_task": "rule:default",
    "tasks_api_access": _ADMIN,
    # metadefs
    "get_metadef_namespaces": _ADMIN_OR_READER,
    **dict.fromkeys(_METADEF_READ, _SEE_NAMESPACE),
    **dict.fromkeys(_METADEF_WRITE, "rule:metadef_admin"),
    # ours, below /casimg/v1: what images share tells projects about each other
    "casimg:snapshot_image": _FETCH,
    "casimg:diff_images": _ADMIN_OR_READER,
    "casimg:get_image_usage": _ADMIN,
    "casimg:get_stats": _ADMIN,
    "casimg:get_dedup": _ADMIN,
    "casimg:get_usage": _ADMIN,
    "casimg:get_own_usage": _ADMIN_OR_READER,
}
