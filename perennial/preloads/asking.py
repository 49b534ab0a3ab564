"""Authenticates requests for pages by their token, and refuses others."""

from __future__ import annotations

import hmac

from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler


class Refusal(RequestHandler):
    """Answers everything with 403, whether there is such a page or not."""

    def initialize(self, text: str) -> None:
        """Take the answer."""
        self._text = text

    def prepare(self) -> None:
        """Answer, whatever the method is."""
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self._text)


def bearer(request: HTTPServerRequest) -> str:
    """Return the token that a program sends; empty for none."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def same(given: str, secret: str) -> bool:
    """Compare in constant time; an empty secret equals nothing."""
    return bool(secret) and hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())
