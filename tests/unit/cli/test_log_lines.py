"""The last line of defence: no secret and nothing that breaks a line leaves the log's processors."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from icehouse_server.cli.logs import redact, redact_text

SECRET = "NEVERshown123"


@pytest.mark.parametrize(
    "text",
    [
        f"https://host.org/a.tif?X-Amz-Signature={SECRET}&x=1",
        f"https://host.org/a.tif?{SECRET}",
        f"https://user:{SECRET}@host.org/a.tif",
        f"https://{SECRET}@host.org/",
        f"Authorization: Bearer {SECRET}",
        f"authorization=Basic {SECRET}",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f'{{"access_token": "{SECRET}"}}',
        f"bearer {SECRET}",
        f"GET /items/1?sig={SECRET} HTTP/1.1",
        f"Retrying (Retry(total=1)) after connection broken: /items/1?se=2&sig={SECRET}",
        f"HTTPConnectionPool(host='h', port=80): Max retries exceeded with url: /a?sig={SECRET}",
        f"token={SECRET}",
        f"password: {SECRET}",
        f"client_secret='{SECRET}'",
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"api_key={SECRET}",
        f"sas=1&sig={SECRET}",
    ],
)
def test_secrets_are_taken_out(text):
    assert SECRET not in redact_text(text)
    line = redact(None, "info", {"event": text, "nested": {"a": [text, (text,)]}, "error": ValueError(text)})
    assert SECRET not in json.dumps(line)


@pytest.mark.parametrize(
    "text",
    [
        "the source answered 503",
        "/collections/arcticdem-32m/coverage",
        "2026-11-22T16:00:00Z",
        "dem/c/120/7: the file is shorter than its header says",
        "https://host.org/a/b.tif",
        "the disk has 5 bytes free; the floor is 7",
        "",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redact_text(text) == text


@given(st.text())
def test_nothing_can_break_a_line(text):
    line = redact(None, "info", {"event": text, "path": text, "list": [text], "exception": text})
    assert line["event"].isprintable()
    assert line["path"].isprintable()
    assert line["list"][0].isprintable()
    assert all(sign.isprintable() or sign in "\n\t" for sign in line["exception"])
    json.dumps(line).encode()
    shown = structlog.dev.ConsoleRenderer(colors=False)(None, "info", {"event": "e", "path": line["path"]})
    assert len(shown.splitlines()) == 1


SCRIPT = f"""
import logging, sys, warnings, structlog
from icehouse_server.cli.logs import configure_logging
from icehouse_server.settings import Settings
for form in ("json", "console"):
    configure_logging(Settings(log_format=form, log_level="info"))
    log = structlog.get_logger(form)
    log.info("request", path="/a\\n\\x1b[31mforged", url="http://u:{SECRET}@h/?sig={SECRET}")
    log.debug("not shown")
    logging.getLogger("urllib3.connectionpool").warning("Retrying %s", "/x?sig={SECRET}\\nforged")
    logging.getLogger("urllib3.connectionpool").info("not shown")
    warnings.warn(form + " beware token={SECRET}")
    warnings.warn("Dataset has no geotransform: not shown, an array that is warped never has one")
    try:
        raise ValueError("http://h/?sig={SECRET}")
    except ValueError as error:
        log.exception("failed")
        logging.getLogger("other").error("failed too", exc_info=error)
    print("=====", file=sys.stderr)
"""


def test_everything_that_is_logged_goes_the_same_way():
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=True
    )
    assert ran.stdout == ""
    assert SECRET not in ran.stderr
    assert "\x1b[31mforged" not in ran.stderr
    assert "not shown" not in ran.stderr
    assert not any(line.startswith("forged") for line in ran.stderr.splitlines())
    as_json, as_text, _ = ran.stderr.split("=====\n")
    found = [json.loads(line) for line in as_json.splitlines()]
    assert [line["level"] for line in found] == ["info", "warning", "warning", "error", "error"]
    assert found[1]["logger"] == "urllib3.connectionpool"
    assert all("timestamp" in line for line in found)
    assert [line["exception"].count("Traceback") for line in found[3:]] == [1, 1]
    for word in ("request", "Retrying", "beware", "failed", "failed too"):
        assert word in as_text
