"""casimg beside Glance: the same requests to both, on the same machine, in the same run.

    python -m benchmarks.glance [--small] [--images FOLDER] [--rounds 3] [--only uploads downloads lists memory]

Glance is the released package with its file store and SQLite, under uWSGI as its documentation says (`httpd/
glance-api-uwsgi.ini`), installed into an environment of its own below `.bench/tools`. Both ask for no token: Glance's
pipeline is that for Keystone without `authtoken`, and the client sends the headers that would come out of it.

casimg is `casimg serve` as shipped. What both do by themselves is left on: Glance looks at the format of an image and
makes md5 and sha512, and so does casimg.

Uploads go into empty services, by turns; downloads, ranges and lists ask both services while the other one is idle.
"""
