"""The formats that an answer can have, and which of them a client asks for."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from icehouse_server.core.coverage import Coverage
from icehouse_server.core.errors import NotAcceptableError
from icehouse_server.output.coveragejson import encode_json, json_memory
from icehouse_server.output.encoded import Encoded, Format
from icehouse_server.output.geotiff import encode_geotiff, geotiff_memory
from icehouse_server.output.netcdf import encode_netcdf, netcdf_memory
from icehouse_server.output.npy import encode_npy, npy_memory
from icehouse_server.output.png import encode_png, png_memory
from icehouse_server.output.scratch import IN_MEMORY, Scratch
from icehouse_server.output.zarrzip import encode_zarr, zarr_memory

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Format(
                name="netcdf",
                media_type="application/x-netcdf",
                suffix=".nc",
                aliases=("application/netcdf", "application/x-netcdf4", "application/netcdf4"),
                encoder=encode_netcdf,
                memory=netcdf_memory,
                lacks=frozenset({"float16"}),
            ),
            Format(
                name="geotiff",
                media_type="image/tiff; application=geotiff; profile=cloud-optimized",
                suffix=".tif",
                aliases=("image/geotiff",),
                encoder=encode_geotiff,
                memory=geotiff_memory,
            ),
            Format(
                name="zarr",
                media_type="application/vnd.zarr; version=3",
                suffix=".zarr.zip",
                aliases=("application/vnd+zarr", "application/zip"),
                ogc_type="application/zarr+zip",
                encoder=encode_zarr,
                memory=zarr_memory,
            ),
            Format(
                name="npy",
                media_type="application/x-npy",
                suffix=".npy",
                aliases=(),
                encoder=encode_npy,
                memory=npy_memory,
            ),
            Format(
                name="png",
                media_type="image/png",
                suffix=".png",
                aliases=(),
                encoder=encode_png,
                memory=png_memory,
            ),
            Format(
                name="json",
                media_type="application/prs.coverage+json",
                suffix=".json",
                aliases=("application/json",),
                ogc_type="application/vnd.cov+json",
                encoder=encode_json,
                memory=json_memory,
            ),
        )
    }
)
"""Formats by the name that ``f=`` takes. The order is that of preference where a client has none."""


def encode(coverage: Coverage, format_name: str, scratch: Scratch = IN_MEMORY) -> Encoded:
    """Encode a coverage. Takes milliseconds to seconds of a processor: call it in a thread.

    Args:
        coverage: what to encode.
        format_name: a key of ``FORMATS``.
        scratch: where what is too large for memory is written.

    Raises:
        DiskFullError: it does not fit there.
        NotAcceptableError: there is no format of this name, or it does not hold the dtype of a band.
        TooLargeError: the format does not hold this much.
    """
    chosen = FORMATS.get(format_name)
    if chosen is None:
        raise NotAcceptableError(
            f"there is no format {format_name!r}", hint=f"the formats are {', '.join(FORMATS)}"
        )
    _check_dtypes(coverage, chosen)
    return Encoded(
        media_type=chosen.media_type, suffix=chosen.suffix, parts=chosen.encoder(coverage, scratch)
    )


def _check_dtypes(coverage: Coverage, chosen: Format) -> None:
    for band in coverage.region.bands:
        if band.dtype.name in chosen.lacks:
            able = [entry.name for entry in FORMATS.values() if band.dtype.name not in entry.lacks]
            raise NotAcceptableError(
                f"{chosen.name} holds no {band.dtype.name}, which band {band.name!r} has",
                hint=f"ask for another format: {', '.join(able)}",
            )


def negotiate(accept: str | None, among: Mapping[str, Sequence[str]]) -> str | None:
    """Return the format that an Accept header asks for (RFC 9110, section 12.5.1), or None.

    The quality of a format is that of the most specific range which names it; parameters other than ``q``
    are not compared, so ``image/tiff`` finds GeoTIFF. Among equals the earlier is taken, as it is for ``*/*``
    and where the header is absent or empty. None: nothing asked for can be given.

    Args:
        accept: the header's value.
        among: formats and the media types of each, its own first.
    """
    ranges = list(_ranges(accept or "")) or [("*/*", 1.0)]
    best: tuple[float, str] | None = None
    for name, (own, *aliases) in among.items():
        # A wildcard speaks of the format's own type; an alias counts only where it is spelt out.
        named = [weight for media_range, weight in ranges if media_range in aliases]
        quality = max(_quality(own, ranges), *named) if named else _quality(own, ranges)
        if quality > 0 and (best is None or quality > best[0]):
            best = quality, name
    return None if best is None else best[1]


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    """Yield (media range, quality) of an Accept header; what can't be read is passed over."""
    for part in accept.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if "/" not in media_range:
            continue
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = _weight(value.strip())
        yield media_range, quality


def _weight(text: str) -> float:
    """Return a weight of 0 to 1; one that can't be read is 0, so that it wins nothing by being wrong."""
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """Return the quality that the most specific matching range gives a media type, 0 where none matches."""
    for wanted in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        found = [quality for media_range, quality in ranges if media_range == wanted]
        if found:
            return max(found)
    return 0.0
