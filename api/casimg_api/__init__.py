"""The HTTP facade: the OpenStack Image API v2 over a casimg repository.

Thin: routes, wire formats, status codes and policies live here; images, their rules and their bytes in `casimg`, which
never imports this package.
"""
