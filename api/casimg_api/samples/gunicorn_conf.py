"""gunicorn under the service: `gunicorn --config gunicorn_conf.py`. What `casimg serve` sets, to be changed at will."""

from casimg_api.server import KEEPALIVE_S, STOP_TIME_MAX_S, hurry_at_signals, limit_idleness, stop_work

raw_env = ["CASIMG_CONFIG=/etc/casimg/server.toml"]
wsgi_app = "casimg_api.wsgi"
bind = "127.0.0.1:9292"

# Processes, each with its own threads; one request takes one thread. Every process opens the repository itself.
workers = 2
threads = 64
worker_class = "gthread"
preload_app = False

# An upload may take hours; a client that neither sends nor takes a byte for 600 s loses its thread.
timeout = 0
when_ready = limit_idleness(600)
keepalive = KEEPALIVE_S
limit_request_line = 8190
control_socket_disable = True

# What a stop waits for, and what it gives back: imports that are not finished.
graceful_timeout = STOP_TIME_MAX_S
post_worker_init = hurry_at_signals
worker_exit = stop_work
