"""What a read of one file gives."""

from dataclasses import dataclass

from icehouse_server.core.grid import Window
from icehouse_server.core.ports import Mask, Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPixels:
    """Pixels of one item and one band."""

    window: Window
    """Where they lie in the collection's grid."""
    values: Pixels
    valid: Mask
