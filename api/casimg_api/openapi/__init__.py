"""The OpenAPI description of the service, made from its routes, its schemas and a table of operations.

A module of operations describes a group of routes; `document.py` puts them together for the routes that there are.
"""

from casimg_api.openapi.document import described, document

__all__ = ["described", "document"]
