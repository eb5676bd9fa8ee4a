"""Services that believe what a proxy in front of them says, as people write and deploy them.

Each answers with what it has made of a request: which page it serves, for whom,
and what it takes for the client's address, scheme and host. ``/admin`` is the
page that no client should get. This file has the applications.
"""

from __future__ import annotations

#: What each page shows, from the variables of a request as WSGI has them.
_SHOWN = """
import json

def first(meta, *names):
    return next((meta[name] for name in names if meta.get(name)), None)

def shown(page, method, meta):
    forwarded = (meta.get("HTTP_X_FORWARDED_FOR") or "").split(",")
    return json.dumps({
        "page": page,
        "method": method,
        "user": first(meta, "HTTP_REMOTE_USER", "HTTP_X_REMOTE_USER", "HTTP_X_AUTH_REQUEST_USER", "HTTP_X_WEBAUTH_USER",
                      "HTTP_X_USER_ID"),
        "address": first(meta, "HTTP_CLIENT_IP", "HTTP_X_REAL_IP", "HTTP_TRUE_CLIENT_IP") or forwarded[0],
        "scheme": first(meta, "HTTP_X_SCHEME", "HTTP_X_URL_SCHEME", "HTTP_X_FORWARDED_PROTO"),
        "host": first(meta, "HTTP_X_HOST", "HTTP_X_FORWARDED_HOST"),
    })
"""

#: Flask behind any WSGI server, and with its own when run as a program.
FLASK = (
    _SHOWN
    + """
import sys
from flask import Flask, request

application = Flask(__name__)
METHODS = ["GET", "POST", "DELETE"]

@application.route("/admin", methods=METHODS)
def admin():
    return shown("admin", request.method, request.environ)

@application.route("/<path:path>", methods=METHODS)
def page(path):
    return shown("page", request.method, request.environ)

if __name__ == "__main__":
    application.run("127.0.0.1", int(sys.argv[1]))
"""
)

#: Django, as WSGI and as ASGI application, and as a module of settings.
DJANGO = (
    _SHOWN
    + """
import os
import sys

DEBUG = False
ALLOWED_HOSTS = ["*"]
SECRET_KEY = "for tests"
ROOT_URLCONF = "application"
MIDDLEWARE = []

from django.http import HttpResponse
from django.urls import re_path

urlpatterns = [
    re_path("^admin$", lambda request: HttpResponse(shown("admin", request.method, request.META))),
    re_path("", lambda request: HttpResponse(shown("page", request.method, request.META))),
]

if os.environ.get("DJANGO_SETTINGS_MODULE") is None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "application"
    sys.modules["application"] = sys.modules[__name__]
    from django.core.asgi import get_asgi_application

    application = get_asgi_application()
"""
)
