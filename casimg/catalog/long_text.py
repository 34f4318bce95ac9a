"""Text that may be longer than the 64 KiB at which a TEXT of MariaDB ends.

Only tables that no put or get declares use it: naming a type of MySQL loads its dialect.
"""

from typing import Final

from sqlalchemy import Text
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.types import TypeEngine

LONG_TEXT: Final[TypeEngine[str]] = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")
