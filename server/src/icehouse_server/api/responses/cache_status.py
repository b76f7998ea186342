"""How the cache was met, and how long that took: the headers that say so."""

from icehouse_server.service import STAGES, Trace


def cache_word(trace: Trace, *, incomplete: bool) -> str:
    """Return how the cache was met, in one word for log and metrics."""
    if incomplete:
        return "incomplete"
    return "miss" if trace.started else "collapsed" if trace.joined else "hit"


def cache_status(trace: Trace, *, incomplete: bool) -> str:
    """Return RFC 9211's words: who was asked, and what became of it.

    ``fwd=partial``: some of the chunks were cached, and the others had to be fetched.
    """
    forwarded = "fwd=partial" if 0 < trace.absent < trace.chunks else "fwd=miss"
    asked = "hit" if trace.started == trace.joined == 0 else forwarded
    words = {
        "hit": "icehouse; hit",
        "miss": f"icehouse; {forwarded}; stored",
        "collapsed": f"icehouse; {forwarded}; collapsed",
        "incomplete": f"icehouse; {asked}; detail=incomplete",
    }
    return words[cache_word(trace, incomplete=incomplete)]


def server_timing(trace: Trace) -> str:
    """Return the value of Server-Timing: milliseconds by stage."""
    return ", ".join(
        f"{name};dur={trace.seconds[name] * 1000:.2f}" for name in STAGES if name in trace.seconds
    )
