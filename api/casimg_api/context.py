"""Who calls, and what one call carries through a handler. Pure.

Handlers take a `Call` first, then what their path names; they never see headers of identity.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casimg.registry import Viewer

if TYPE_CHECKING:
    import falcon

    from casimg.metadefs import Metadefs
    from casimg.tasks import Tasks
    from casimg_api.caching import Caching
    from casimg_api.config import Config
    from casimg_api.importing import Imports
    from casimg_api.places import Places
    from casimg_api.policy import Policy
    from casimg_api.ports import RegistryPort
    from casimg_api.property_protection import May, PropertyProtection
    from casimg_api.schemas import Schemas
    from casimg_api.stores import Stores
    from casimg_api.unified_limits import UnifiedLimits

CALLER_KEY = "casimg.caller"
"""Where the authentication puts the Caller in a WSGI environ."""
REQUEST_ID_KEY = "casimg.request_id"
VIEWS_KEY = "casimg.takes_views"
"""In an environ: parts of the answer may be views, which are sent before the next part is asked for."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the authentication found out; roles are lower case."""

    project_id: str | None
    user_id: str | None
    roles: tuple[str, ...]
    is_admin: bool = False
    service_roles: tuple[str, ...] = ()
    """Roles of a service token that came with the user's."""
    scope: str = "project"
    """What the token is for: project, domain or system."""
    is_anonymous: bool = False
    """Without a token, where that is let in; see `ANONYMOUS`."""

    @property
    def is_service(self) -> bool:
        return "service" in self.roles or "service" in self.service_roles

    @property
    def viewer(self) -> Viewer:
        """Whose eyes the catalog looks through."""
        return Viewer(self.project_id, is_admin=self.is_admin)


ANONYMOUS = Caller(None, None, (), is_anonymous=True)
"""Whoever comes without a token: reads public images, whatever policies say."""


@dataclass(frozen=True, slots=True)
class Services:
    """What all calls share; any number of threads may use it."""

    registry: "RegistryPort"
    metadefs: "Metadefs"
    tasks: "Tasks"
    config: "Config"
    policy: "Policy"
    schemas: "Schemas"
    imports: "Imports"
    stores: "Stores"
    limits: "UnifiedLimits"
    places: "Places"
    protection: "PropertyProtection"
    caching: "Caching | None" = None
    """The server's cache of whole images, if it has one."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request with its answer, its caller, and the services."""

    services: Services
    caller: Caller
    request_id: str
    req: "falcon.Request"
    resp: "falcon.Response"

    @property
    def registry(self) -> "RegistryPort":
        return self.services.registry

    @property
    def metadefs(self) -> "Metadefs":
        return self.services.metadefs

    @property
    def tasks(self) -> "Tasks":
        return self.services.tasks

    @property
    def imports(self) -> "Imports":
        return self.services.imports

    @property
    def stores(self) -> "Stores":
        return self.services.stores

    @property
    def limits(self) -> "UnifiedLimits":
        return self.services.limits

    @property
    def places(self) -> "Places":
        return self.services.places

    @property
    def may(self) -> "May":
        """What the caller may do with properties; to be taken once for many names."""
        return self.services.protection.of(self.caller)

    @property
    def config(self) -> "Config":
        return self.services.config

    @property
    def policy(self) -> "Policy":
        return self.services.policy
