"""Scale and offset: a value must mean the same in a file and in the band that keeps it."""

from dataclasses import dataclass

from icehouse_server.core.collection import BandSpec

_ALIKE = 1e-6
"""Share by which scales, and offsets in units of the scale, may differ: documents round them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """How values of a file become quantities: ``value * scale + offset``."""

    scale: float
    offset: float

    @classmethod
    def of_file(cls, scale: float, offset: float) -> "Units | None":
        """Return what a GeoTIFF says of a band; one that says nothing looks like one that says (1, 0)."""
        return None if (scale, offset) == (1, 0) else cls(scale=scale, offset=offset)

    def are_those_of(self, band: BandSpec) -> bool:
        """Return whether a value means the same in the file and in a band."""
        return abs(self.scale - band.scale) <= _ALIKE * abs(band.scale) and abs(
            self.offset - band.offset
        ) <= _ALIKE * max(abs(band.scale), abs(band.offset))

    def refusal(self, band: BandSpec) -> str:
        """Return what is wrong where they are not those of a band."""
        return (
            f"its values have scale {self.scale:.15g} and offset {self.offset:.15g}, "
            f"those of band {band.name!r} {band.scale:.15g} and {band.offset:.15g}"
        )

    @property
    def hint(self) -> str:
        """What to write where all files have these."""
        return (
            f"if all have these, write scale = {self.scale:.15g} and offset = {self.offset:.15g} for the band"
        )
