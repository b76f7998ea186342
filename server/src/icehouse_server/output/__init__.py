"""From pixels of the grid to the bytes of an answer: warp, clip, and the formats.

Everything here is synchronous and keeps no state; callers run it in a pool of threads.
"""

from icehouse_server.output.encoded import Encoded, Format, Part
from icehouse_server.output.formats import FORMATS, encode, negotiate
from icehouse_server.output.legends import legend_of, legend_png
from icehouse_server.output.map_tile import PICTURES
from icehouse_server.output.scratch import IN_MEMORY, FilePart, Scratch
from icehouse_server.output.warp import clip, copy_piece, inside, warp_piece

__all__ = [
    "FORMATS",
    "IN_MEMORY",
    "PICTURES",
    "Encoded",
    "FilePart",
    "Format",
    "Part",
    "Scratch",
    "clip",
    "copy_piece",
    "encode",
    "inside",
    "legend_of",
    "legend_png",
    "negotiate",
    "warp_piece",
]
