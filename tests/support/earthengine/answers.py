"""The JSON that Earth Engine answers with: assets and values."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from support.earthengine.geometry import Geometry
from support.earthengine.images import Collection, Image, load_image

if TYPE_CHECKING:
    from support.earthengine import world
    from support.earthengine.images import Band


def value_document(value: object) -> Any:
    """The result of value:compute."""
    match value:
        case Image():
            found = {"type": "Image", "bands": [_band(band) for band in value.bands]}
            return (
                found
                | ({"id": value.id} if value.id else {})
                | ({"properties": value.properties} if value.properties else {})
            )
        case Collection():
            features = [value_document(image) for image in value.images]
            return {"type": "ImageCollection", "bands": [], "features": features} | (
                {"id": value.id} if value.id else {}
            )
        case Geometry():
            return value.to_json()
        case list() | tuple():
            return [value_document(one) for one in value]
        case dict():
            return {key: value_document(one) for key, one in value.items()}
        case _:
            return value


def _band(band: Band) -> dict[str, Any]:
    found = {
        "id": band.name,
        "data_type": band.type.to_json(),
        "crs": band.crs,
        "crs_transform": list(band.transform),
    }
    return found | ({} if band.dimensions is None else {"dimensions": list(band.dimensions)})


def asset_document(asset: world.Asset) -> dict[str, Any]:
    """An asset as `getAsset` shows it."""
    document = {
        "name": full_name(asset.id),
        "id": asset.id,
        "updateTime": "2025-01-01T00:00:00Z",
    }
    if asset.collection:
        return {**document, "type": "IMAGE_COLLECTION"}
    return {**document, **image_document(load_image(asset, asset.tiles[0]))}


def image_document(image: Image) -> dict[str, Any]:
    """One image as `getAsset` and `listAssets` show it."""
    assert image.id is not None
    footprint = image.footprint or ()
    document: dict[str, Any] = {
        "type": "IMAGE",
        "name": full_name(image.id),
        "id": image.id,
        "properties": {k: v for k, v in image.properties.items() if not k.startswith("system:")},
        "geometry": Geometry.of_extents([(extent.crs, extent.box) for extent in footprint]).to_json(),
        "bands": [_asset_band(band) for band in image.bands],
    }
    for key, name in (("system:time_start", "startTime"), ("system:time_end", "endTime")):
        if key in image.properties:
            moment = dt.datetime.fromtimestamp(image.properties[key] / 1000, dt.UTC)
            document[name] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return document


def _asset_band(band: Band) -> dict[str, Any]:
    scale_x, shear_x, x, shear_y, scale_y, y = band.transform
    width, height = band.dimensions or (0, 0)
    affine = {
        "scaleX": scale_x,
        "shearX": shear_x,
        "translateX": x,
        "shearY": shear_y,
        "scaleY": scale_y,
        "translateY": y,
    }
    data_type: dict[str, Any] = {"precision": band.type.precision.upper()}
    if band.type.low is not None:
        data_type["range"] = {"min": band.type.low, "max": band.type.high}
    return {
        "id": band.name,
        "dataType": data_type,
        "grid": {
            "crsCode": band.crs,
            "dimensions": {"width": width, "height": height},
            "affineTransform": affine,
        },
        "pyramidingPolicy": "MEAN",
    }


def full_name(name: str) -> str:
    """The name of an asset in the REST API, from its id."""
    if name.startswith("projects/"):
        return name
    project = "earthengine-legacy" if name.startswith("users/") else "earthengine-public"
    return f"projects/{project}/assets/{name}"
