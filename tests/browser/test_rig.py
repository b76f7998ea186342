"""The page starts without a word in the console; one that does wrong, or looks otherwise, is noticed."""

from __future__ import annotations

import time

import pytest


@pytest.mark.parametrize(("screen", "dark"), [("desktop", False), ("phone", True)])
def test_it_starts(open_page, screens, axe, screen, dark):
    page = open_page("", screens[screen], dark=dark)
    assert "Icehouse" in page.title()
    page.get_by_role("heading", name="Icehouse").first.wait_for()
    axe(page)


@pytest.fixture
def page(open_page, daemon):
    """A page that is quiet by itself, with the policy of the real one."""
    policy = daemon.http.get("/", headers={"accept": "text/html"}).headers["content-security-policy"]
    opened = open_page(None)
    head = '<!doctype html><html lang="en"><title>Quiet</title><link rel="icon" href="data:,">'
    body = f"{head}<main><h1>Quiet</h1></main></html>"
    headers = {"content-type": "text/html", "content-security-policy": policy}
    opened.route(f"{daemon.url}/", lambda route: route.fulfill(body=body, headers=headers))
    opened.goto("/")
    return opened


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("console.warn('careful')", "console warning: careful"),
        ("console.error('wrong')", "console error: wrong"),
        ("setTimeout(() => { throw new Error('thrown') })", "error: thrown"),
        ("fetch('collections/nope')", "console error: .*404"),
        ("fetch('http://localhost:1/').catch(() => {})", "asked another host|Content Security Policy"),
        ("document.body.append(Object.assign(new Image(), {src: 'http://localhost:1/x.png'}))", "/x.png"),
        ("document.body.setAttribute('style', 'color: red')", "Policy"),
    ],
)
def test_a_page_that_does_wrong_is_noticed(page, watch, script, complaint):
    assert not watch.complaints
    watch.expected.append(complaint)
    page.evaluate(f"() => {{ {script} }}")
    deadline = time.monotonic() + 20
    while not watch.complaints and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert watch.complaints
    assert not watch.unexpected()
    watch.expected.clear()
    assert watch.unexpected() == watch.complaints
    watch.complaints.clear()


def test_a_page_that_some_people_can_not_use_is_noticed(page, axe):
    page.evaluate("() => document.body.append(document.createElement('button'))")
    with pytest.raises(AssertionError, match="button-name"):
        axe(page)


class TestReferences:
    @pytest.fixture
    def references(self, tmp_path):
        return tmp_path / "references"

    def test_a_page_that_looks_otherwise_is_noticed(self, page, looks_like, pytestconfig, monkeypatch):
        with pytest.raises(AssertionError, match="--update-references"):
            looks_like(page, "start")
        with monkeypatch.context() as patch:
            patch.setattr(pytestconfig, "getoption", lambda *_, **__: True)
            looks_like(page, "start")
        looks_like(page, "start")
        page.evaluate("() => { document.body.style.background = '#888' }")
        with pytest.raises(AssertionError, match="in the mean"):
            looks_like(page, "start")
