"""`/` for browsers and `/page/…`: the files of the page, with or without a token, built or not."""

from __future__ import annotations

import re

import httpx
import pytest

from icehouse_server.api.routes.page import Page
from icehouse_server.app import create_app
from icehouse_server.settings import Settings

TOKEN = "Zm9yIHRlc3RzIG9ubHkgLSBub3QgYSBzZWNyZXQ"
BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
SCRIPT = "main-ABCD2345.js"


@pytest.fixture
def folder(tmp_path):
    """What a build leaves."""
    (tmp_path / "index.html").write_text(
        f'<!doctype html><script type="module" src="page/{SCRIPT}"></script>'
    )
    (tmp_path / SCRIPT).write_text("export {};")
    for name in ("main-ABCD2345.css", "icon-ABCD2345.svg", "land-ABCD2345.json", "licenses-ABCD2345.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.fixture
async def start(folder, tmp_path_factory, monkeypatch):
    """Starts daemons in this process whose page is `folder`."""
    read = Page.read
    monkeypatch.setattr(Page, "read", lambda _: read(folder))
    opened = []

    async def start(**settings):
        cache = tmp_path_factory.mktemp("cache")
        app = create_app(
            Settings(cache_dir=cache, collections=("arcticdem-32m",), allowed_hosts=("daemon",), **settings)
        )
        lifespan = app.router.lifespan_context(app)
        await lifespan.__aenter__()
        opened.append(lifespan)
        opened.append(httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://daemon"))
        return opened[-1]

    yield start
    for each in reversed(opened):
        await each.__aexit__(None, None, None)


async def test_a_browser_gets_the_page_and_a_program_the_links(start):
    http = await start()
    answer = await http.get("/", headers=BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["vary"] == "Accept"
    assert f'src="page/{SCRIPT}"' in answer.text
    for headers in ({}, {"accept": "application/json"}):
        assert (await http.get("/", headers=headers)).json()["type"] == "Catalog"


async def test_a_file_keeps_for_ever_and_is_not_sent_twice(start):
    http = await start()
    answer = await http.get(f"/page/{SCRIPT}")
    assert answer.text == "export {};"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    for path, headers in ((f"/page/{SCRIPT}", {}), ("/", BROWSER)):
        tag = (await http.get(path, headers=headers)).headers["etag"]
        again = await http.get(path, headers={**headers, "if-none-match": tag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert (await http.get(path, headers={**headers, "if-none-match": '"other"'})).status_code == 200
    head = await http.head(f"/page/{SCRIPT}")
    assert (head.headers["content-length"], head.content) == ("10", b"")


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        (SCRIPT, "text/javascript; charset=utf-8"),
        ("main-ABCD2345.css", "text/css; charset=utf-8"),
        ("icon-ABCD2345.svg", "image/svg+xml"),
        ("land-ABCD2345.json", "application/json"),
        ("licenses-ABCD2345.txt", "text/plain; charset=utf-8"),
    ],
)
async def test_media_types(start, name, media_type):
    assert (await (await start()).get(f"/page/{name}")).headers["content-type"] == media_type


@pytest.mark.parametrize(
    "name",
    ["nope.js", "index.html", "folder", "%2e%2e%2fapp.py", "..%2fpy.typed", "main-ABCD2345.js%00"],
)
async def test_only_what_was_built_is_served(start, name):
    answer = await (await start()).get(f"/page/{name}")
    assert answer.status_code == 404
    assert answer.json()["kind"] == "not-found"


async def test_a_browser_is_told_to_load_nothing_from_elsewhere(start, folder):
    http = await start()
    built = [await http.get("/", headers=BROWSER), await http.get(f"/page/{SCRIPT}")]
    for answer in built:
        policy = dict(
            part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == policy["form-action"] == "'self'"
        assert policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in str(policy)
    (folder / "index.html").unlink()
    plain = await (await start()).get("/", headers=BROWSER)
    for answer in (*built, plain):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "script-src" not in answer.headers["content-security-policy"]


async def test_unbuilt_page_lists_collections_and_how_to_build_it(start, folder):
    (folder / "index.html").unlink()  # a build that was broken off left the rest
    http = await start()
    answer = await http.get("/", headers=BROWSER)
    assert answer.headers["content-type"].startswith("text/html")
    assert 'href="collections/arcticdem-32m"' in answer.text
    assert "make page" in answer.text
    assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text)
    assert (await http.get(f"/page/{SCRIPT}")).status_code == 404


async def test_with_a_read_token_the_page_is_free_and_its_data_is_not(start, folder):
    http = await start(host="0.0.0.0", token=TOKEN)
    assert (await http.get("/", headers=BROWSER)).status_code == 200
    assert (await http.get(f"/page/{SCRIPT}")).status_code == 200
    for path in ("/", "/collections", "/page/nope.js", "/page/index.html", "/docs"):
        assert (await http.get(path)).status_code == 401
    for path in ("/collections", "/docs"):
        assert (await http.get(path, headers=BROWSER)).status_code == 401
    assert (await http.post("/", headers=BROWSER)).status_code == 401
    assert (await http.get("/", headers={"authorization": f"Bearer {TOKEN}"})).json()["type"] == "Catalog"
    # The plain page names collections: without the token it is not shown.
    (folder / "index.html").unlink()
    assert (await (await start(host="0.0.0.0", token=TOKEN)).get("/", headers=BROWSER)).status_code == 401


async def test_the_api_pages_still_work(start):
    http = await start()
    answer = await http.get("/docs", headers=BROWSER)
    scripts = re.findall(r'(?:src|href)="(/docs-static/[^"]+)"', answer.text)
    assert scripts
    for path in scripts:
        assert (await http.get(path)).status_code == 200
    assert "content-security-policy" not in answer.headers
