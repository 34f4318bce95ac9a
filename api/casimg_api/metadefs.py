"""All routes of metadata definitions, with those of their schemas."""

from typing import Final

from casimg_api import (
    metadef_namespaces,
    metadef_objects,
    metadef_properties,
    metadef_resource_types,
    metadef_schemas,
    metadef_tags,
)

ROUTES: Final = (
    *metadef_schemas.ROUTES,
    *metadef_resource_types.ROUTES,
    *metadef_namespaces.ROUTES,
    *metadef_properties.ROUTES,
    *metadef_objects.ROUTES,
    *metadef_tags.ROUTES,
)
