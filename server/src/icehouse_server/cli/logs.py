"""How the daemon logs: structlog, to stderr, for people on a terminal and as JSON elsewhere."""

import logging
import os
import sys

import icechunk
import structlog

from icehouse_server.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Set structlog up once, before the daemon starts."""
    if "ICECHUNK_LOG" not in os.environ:
        # Its warnings say that a local folder needs a single writer: that is what this daemon is.
        icechunk.set_logs_filter("error")
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer()
    )
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.StackInfoRenderer(),
            *([] if console else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
