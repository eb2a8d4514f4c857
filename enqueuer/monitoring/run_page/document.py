"""The page as one HTML text. It loads nothing: it contains styles, scripts and uPlot, and a report's data as well.

The policy (CSP) allows these very scripts and styles, by their digests, and no other. Texts from workers reach the
script as data, and the script writes them as texts, never as markup.
"""

from __future__ import annotations

import json
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

_STYLES = ("uPlot.min.css", "page.css")
_SCRIPTS = ("uPlot.iife.min.js", "texts.js", "charts.js", "heat_strip.js", "worker_table.js", "page.js")


def build_page(record: dict[str, Any] | None) -> str:
    """The page with this record; None: a live page, to ask its server for the record."""
    data = json.dumps(record, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    before, after = _template(is_live=record is None).split("@RECORD@")
    return f"{before}{data}{after}"


@cache
def content_security_policy(*, is_live: bool) -> str:
    """The policy: a page may run its own scripts, and a live page may load its server's record."""
    styles = " ".join(_digest(_read(name)) for name in _STYLES)
    scripts = " ".join(_digest(_read(name)) for name in _SCRIPTS)
    connect = "'self'" if is_live else "'none'"
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; connect-src {connect}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _template(*, is_live: bool) -> str:
    styles = "".join(f"<style>{_read(name)}</style>\n" for name in _STYLES)
    scripts = "".join(f"<script>{_read(name)}</script>\n" for name in _SCRIPTS)
    page = _read("page.html")
    for name, text in (
        ("LICENSE", _read("uPlot.LICENSE")),
        ("POLICY", content_security_policy(is_live=is_live)),
        ("STYLES", styles),
        ("SCRIPTS", scripts),
    ):
        page = page.replace(f"@{name}@", text)
    return page


@cache
def _read(name: str) -> str:
    return files(__package__).joinpath("assets").joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
