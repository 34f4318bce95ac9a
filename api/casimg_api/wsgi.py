"""The application for WSGI servers that load a module: uWSGI, gunicorn, mod_wsgi.

`CASIMG_CONFIG` names the configuration; its section [repository] names the repository. Every worker process opens the
repository itself, so the module is loaded after a fork: no preloading, `lazy-apps` in uWSGI.
"""

import os

from casimg_api.wsgi_loading import CONFIG_VARIABLE, load

application = load(os.environ.get(CONFIG_VARIABLE))
