"""What can go wrong at Earth Engine: each fault ends in success or in a named error, within its deadline."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from icehouse_server.collections.loader import read_collections
from icehouse_server.core.errors import (
    SourceRefusedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from icehouse_server.demo.faults import Cut, Drip, Drop, Fault, Page, Redirect, Stall, Status
from icehouse_server.downloads.fetch import RetryPolicy, read_block
from icehouse_server.sources import EarthEngineSettings, create_source
from icehouse_server.sources.earthengine import access
from support import source_rig
from support.earthengine import rig
from support.earthengine.pixels import Rules
from support.earthengine.standin import ALGORITHMS, COMPUTE_PIXELS, DISCOVERY

QUICK = RetryPolicy(attempts=3, first_wait=0.01, longest_wait=0.1, budget=60, block_timeout=30)
READ_TIMEOUT = 1.5
BUSY = Status(status=429, body="google")
DOWN = Status(status=503, body="html")


@pytest.fixture
def standin(fresh_earth_engine, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(access, "_BELIEVED", 0.05)
    return fresh_earth_engine


async def load(standin, policy=QUICK, **overrides):
    """Read a block as the layer above does; the block, and whether it is the truth."""
    options = {"connect_timeout": READ_TIMEOUT, "read_timeout": READ_TIMEOUT, **overrides}
    spec = source_rig.with_source(read_collections(None)["tctrend"], fill_holes=0)
    window = source_rig.window_around(spec, -150.2, 71.0, 300, 200)
    with rig.earthengine_context(standin, **options) as context:
        source = create_source(spec, context)
        try:
            block = await read_block(source, source_rig.request_for(spec, window, "TCB_slope"), policy)
        finally:
            await source.close()
    values, valid = rig.truth_of(spec, "TCB_slope", window)
    found = block.bands["TCB_slope"]
    np.testing.assert_array_equal(found.valid, valid)
    np.testing.assert_array_equal(found.values[valid], values[valid])


@pytest.mark.parametrize(
    "action",
    [BUSY, DOWN, Status(status=500, body="google"), Drop(), Cut(), Page(), Stall(seconds=20), Drip()],
    ids=lambda action: type(action).__name__ + str(getattr(action, "status", "")),
)
@pytest.mark.parametrize("path", [COMPUTE_PIXELS, DISCOVERY, ALGORITHMS])
async def test_once_is_tried_again(standin, action, path):
    standin.faults([Fault(action=action, path=path)])
    await load(standin)


@pytest.mark.parametrize(
    ("action", "error", "says"),
    [
        (BUSY, SourceUnavailableError, "429"),
        (DOWN, SourceUnavailableError, "503"),
        (Drop(), SourceUnavailableError, "broke off"),
        (Cut(), SourceUnavailableError, "broke off"),
        (Page(), SourceUnavailableError, "something else than pixels"),
        (Stall(seconds=20), SourceTimeoutError, "in time"),
        (Stall(seconds=20, where="body"), SourceTimeoutError, "in time"),
        (Drip(interval=0.2), SourceTimeoutError, "in time"),
        (
            Status(status=400, body="google", message="Computation timed out."),
            SourceRefusedError,
            "timed out",
        ),
        (
            Status(status=400, body="google", message="User memory limit exceeded."),
            SourceRefusedError,
            "memory limit",
        ),
        (Status(status=403, body="google"), SourceRefusedError, "project"),
        (Redirect(location="http://127.0.0.1:9/"), SourceRefusedError, "can't compute"),
    ],
    ids=lambda value: getattr(value, "message", None) or getattr(value, "__name__", None) or str(value)[:40],
)
async def test_for_ever_is_a_named_error(standin, action, error, says):
    standin.faults([Fault(action=action, path=COMPUTE_PIXELS, times=None)])
    # Only what hangs is waited for: a busy machine must not turn the others into time-outs.
    seconds = 0.4 if error is SourceTimeoutError else 20
    with pytest.raises(error, match=says) as caught:
        await load(standin, replace(QUICK, attempts=2), read_timeout=seconds, connect_timeout=seconds)
    assert type(caught.value) is error


async def test_a_memory_limit_is_not_asked_for_ever(standin):
    """300 x 200 pixels are halved down to 64 x 64, and no further."""
    message = "User memory limit exceeded."
    fault = Status(status=400, body="google", message=message)
    standin.faults([Fault(action=fault, path=COMPUTE_PIXELS, times=None)])
    with pytest.raises(SourceRefusedError):
        await load(standin)
    assert standin.counters().matching(":computePixels")[0] <= 64


async def test_retry_after_is_heard(standin):
    fault = Status(status=429, body="google", retry_after="7")
    standin.faults([Fault(action=fault, path=COMPUTE_PIXELS, times=None)])
    with pytest.raises(SourceUnavailableError) as caught:
        await load(standin, replace(QUICK, attempts=1))
    assert caught.value.retry_after == 7


async def test_a_quota_that_is_used_up(standin):
    standin.rules(Rules(per_minute=0))
    with pytest.raises(SourceUnavailableError, match="Quota exceeded"):
        await load(standin, replace(QUICK, attempts=2))


async def test_a_start_that_failed_is_not_tried_at_every_request(standin, monkeypatch):
    monkeypatch.setattr(access, "_BELIEVED", 60)
    standin.faults([Fault(action=DOWN, path=DISCOVERY, times=None)])
    spec = read_collections(None)["tctrend"]
    window = source_rig.window_around(spec, -150.2, 71.0, 30, 20)
    with rig.earthengine_context(standin) as context:
        source = create_source(spec, context)
        request = source_rig.request_for(spec, window)
        outcomes = await asyncio.gather(*(source.read(request) for _ in range(5)), return_exceptions=True)
        await source.close()
    assert {type(outcome) for outcome in outcomes} == {SourceUnavailableError}
    assert [outcome.retry_after for outcome in outcomes].count(None) == 1
    assert standin.counters().requests == 1


# Credentials


async def refusal(standin, **changes):
    settings = EarthEngineSettings(**{"project": "any-project", "url": standin.url, **changes})
    with pytest.raises(SourceRefusedError) as caught:
        await load(standin, earthengine=settings)
    return caught.value


async def test_credentials_that_are_asked_for(standin):
    standin.rules(Rules(token="secret-token-of-the-server"))
    error = await refusal(standin, credentials="none")
    assert "earthengine authenticate" in error.hint


async def test_a_project_that_may_not_be_used(standin):
    standin.rules(Rules(denied=True))
    assert "earthengine_project" in (await refusal(standin, credentials="none")).hint


async def test_no_project(standin):
    assert "earthengine_project" in (await refusal(standin, credentials="none", project=None)).hint


async def test_no_stored_credentials(standin, monkeypatch, tmp_path):
    for name in ("HOME", "CLOUDSDK_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    for choice in ("persistent", "application-default"):
        error = await refusal(standin, credentials=choice)
        assert "earthengine authenticate" in error.hint, choice


async def test_the_library_is_not_installed(standin, monkeypatch):
    monkeypatch.setitem(sys.modules, "ee", None)
    assert 'pip install "icehouse-server[earthengine]"' in (await refusal(standin)).hint


@pytest.fixture
def key(standin, tmp_path):
    """A service account's key file, whose tokens come from the stand-in."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "key.json"
    content = {
        "type": "service_account",
        "project_id": "any-project",
        "private_key_id": "1",
        "private_key": private.decode(),
        "client_email": "icehouse@any-project.iam.gserviceaccount.com",
        "token_uri": f"{standin.url}/token",
    }
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    return path


async def test_a_service_account(standin, key, capfd):
    """Its key buys a token, and neither is in the log."""
    standin.rules(Rules(token="secret-token-of-the-server"))
    settings = EarthEngineSettings(credentials=str(key), url=standin.url)
    await load(standin, earthengine=settings)
    said = "".join(capfd.readouterr())
    assert "secret-token" not in said
    assert "PRIVATE" not in said
    assert "earthengine_key_readable" not in said


async def test_a_key_that_others_may_read_is_told(standin, key, capfd):
    key.chmod(0o644)
    await load(standin, earthengine=EarthEngineSettings(credentials=str(key), url=standin.url))
    assert "earthengine_key_readable" in "".join(capfd.readouterr())


@pytest.mark.parametrize("content", [None, "no JSON but a secret", '{"type": "authorized_user"}'])
async def test_a_key_file_that_is_none(standin, tmp_path, content):
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    error = await refusal(standin, credentials=str(path))
    assert "earthengine_credentials" in error.detail
    assert "secret" not in error.detail


async def test_a_token_server_that_is_down(standin, key):
    standin.faults([Fault(action=DOWN, path="/token")])
    await load(standin, earthengine=EarthEngineSettings(credentials=str(key), url=standin.url))


async def test_a_mirror_stands_for_earth_engine(standin):
    """As for every URL that a source asks for."""
    settings = EarthEngineSettings(project="any-project", credentials="none")
    await load(standin, earthengine=settings, mirrors={f"{settings.url}/": f"{standin.url}/"})
