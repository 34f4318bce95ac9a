"""Keystone's WSGI application, for gunicorn in the programs' venv. OS_KEYSTONE_CONFIG_FILES names its configuration."""

import sys

# Keystone hands the arguments of the process to oslo.config; gunicorn's would end it.
sys.argv = ["keystone"]

from keystone.server.wsgi import initialize_public_application  # noqa: E402

application = initialize_public_application()
