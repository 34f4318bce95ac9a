"""The service under WSGI servers that load `casimg_api.wsgi`: gunicorn, uWSGI, Apache with mod_wsgi."""
