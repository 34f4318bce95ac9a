"""casimg beside Glance: the same requests to both, on the same machine, in the same run.

    python -m benchmarks.glance [--small] [--images FOLDER] [--rounds 3] [--only uploads downloads first lists ...]

Glance is the released package with its file store and SQLite, under uWSGI as its documentation says (`httpd/
glance-api-uwsgi.ini`), installed into an environment of its own below `.bench/tools`. Both ask for no token: Glance's
pipeline is that for Keystone without `authtoken`, and the client sends the headers that would come out of it.

casimg is `casimg serve` as shipped. What both do by themselves is left on: Glance looks at the format of an image and
makes md5 and sha512, and so does casimg.

Downloads and ranges are of what a service has sent before, as those of an image for many hosts are; part `first` is of
services that have just been started, with the page cache and without, and `cache` of a casimg that keeps images whole
on a disk of its own, and nothing in memory.

Uploads go into empty services, by turns; downloads, ranges and lists ask both services while the other one is idle.
"""
