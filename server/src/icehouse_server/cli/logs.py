"""How the daemon logs: structlog, to stderr, for people on a terminal and as JSON elsewhere."""

import logging
import os
import re
import sys
import warnings

import icechunk
import stamina.instrumentation
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from icehouse_server.settings import Settings

_MANY_LINES = frozenset({"exception", "stack"})
"""Members that may have lines of their own: tracebacks."""

_SUSPECT = re.compile(r"[=:?@ ]")
"""Without one of these a text holds no secret that its name could reveal: most values of a line."""

_PLAIN = frozenset({int, float, bool, type(None)})
_OWN = frozenset({"timestamp", "level"})

_USER = re.compile(r"(?<=://)[^\s/@\"'<>]+@")
_QUERY = re.compile(r"\?[^\s\"'<>)\]}]+")
_PAIRS = re.compile(r"([&?][\w.-]+=)[^\s&\"'<>)\]}]+")
_SCHEME = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE)
_NAMED = re.compile(
    r"((?:authorization|[\w-]*(?:token|secret|passw|signature|api.?key)[\w-]*)[\"']?\s*[:=]\s*[\"']?)"
    r"(?!Bearer |Basic )[^\s\"'&,;)}\]]+",
    re.IGNORECASE,
)


def redact_text(text: str) -> str:
    """Return a text without what may be a secret: user and query of URLs, tokens, passwords, signatures."""
    if _SUSPECT.search(text) is None:
        return text
    text = _USER.sub("***@", text)
    text = _SCHEME.sub(r"\1 ***", text)
    text = _PAIRS.sub(r"\1***", text)
    text = _QUERY.sub("?***", text)
    return _NAMED.sub(r"\1***", text)


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Take secrets out of a line: the last line of defence, for texts of libraries above all.

    Also takes out what could break the line. A path may hold any character: one that ends a line forges the
    next, and an escape sequence reaches the terminal of the person who reads the log.
    """
    for key, value in event.items():
        if not _is_clean(value) and key not in _OWN:
            event[key] = _cleaned(value, kept="\n\t" if key in _MANY_LINES else "")
    return event


def _is_clean(value: object) -> bool:
    """Return whether a value may be written as it is: nearly all, decided in a fraction of a microsecond."""
    if isinstance(value, str):
        return _SUSPECT.search(value) is None and value.isprintable()
    return type(value) in _PLAIN


def _cleaned(value: object, *, kept: str = "") -> object:
    """Return a value of a line as it may be written; ``kept`` are unprintable signs that are left."""
    if _is_clean(value):
        return value
    if isinstance(value, str):
        text = redact_text(value)
        return text if text.isprintable() else _escaped(text, kept)
    if isinstance(value, dict):
        return {_cleaned(str(key)): _cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_cleaned(inner) for inner in value]
    return _cleaned(repr(value))


def _escaped(text: str, kept: str) -> str:
    return "".join(
        sign if sign.isprintable() or sign in kept else sign.encode("unicode_escape").decode()
        for sign in text
    )


def configure_logging(settings: Settings) -> None:
    """Set structlog up once, before the daemon starts; what libraries log goes the same way."""
    if "ICECHUNK_LOG" not in os.environ:
        # Its warnings say that a local folder needs a single writer: that is what this daemon is.
        icechunk.set_logs_filter("error")
    # The daemon writes a line of its own for each retry, with the id of the fetch.
    stamina.instrumentation.set_on_retry_hooks([])
    chain = _chain()
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer()
    )
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*chain, redact, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    _take_over_libraries(chain, renderer)


def _chain() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]


def _take_over_libraries(chain: list[Processor], renderer: Processor) -> None:
    """Let warnings of libraries become lines like ours; urllib3's hold whole URLs, signed ones too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*chain[:-1], structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact,
                renderer,
            ],
            use_get_message=True,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    # Arrays that are warped have none. rasterio hides this, but by a means that threads take from each other.
    warnings.filterwarnings("ignore", "Dataset has no geotransform")
