"""Configurations of WSGI servers under which the service was tried; `casimg serve --sample NAME` prints one."""
