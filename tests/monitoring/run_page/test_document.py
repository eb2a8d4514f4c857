"""The page as one text: it loads nothing, its policy fits what is in it, and no data becomes markup."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256

import pytest

from enqueuer.monitoring.run_page.document import build_page, content_security_policy


@pytest.mark.parametrize("record", [None, {"state": "report"}])
def test_the_policy_names_every_script_and_style_of_the_page_and_no_other(record: dict[str, str] | None) -> None:
    page = build_page(record)
    policy = content_security_policy(is_live=record is None)
    assert f'content="{policy}"' in page
    inside = re.findall(r"<script>(.*?)</script>|<style>(.*?)</style>", page, re.DOTALL)
    digests = {b64encode(sha256((script or style).encode()).digest()).decode() for script, style in inside}
    assert len(digests) == 8 and digests == set(re.findall(r"'sha256-([^']+)'", policy))
    assert ("connect-src 'self'" in policy) == (record is None)
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy


def test_the_page_loads_nothing_and_brings_the_licence_of_what_it_draws_with() -> None:
    page = build_page(None)
    assert re.findall(r"(?:src|href)=[\"'](?!data:)", page) == []
    assert "@import" not in page and "url(" not in page
    assert "Copyright (c) 2022 Leon Sorokin" in page and "Permission is hereby granted" in page


def test_no_text_of_a_record_ends_its_element() -> None:
    text = "</script><script>alert(1)</script><!-- \u2028 @SCRIPTS@ @RECORD@"
    page = build_page({"faults": [[0.0, text]]})
    [inside] = re.findall(r'<script type="application/json" id="record">(.*?)</script>', page, re.DOTALL)
    assert json.loads(inside) == {"faults": [[0.0, text]]}
    assert page.count("alert(1)") == 1
