"""STAC item collections as manifests: two assets of an item are the images of a scene."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from rrl_register.batch.manifest import BatchItem, Manifest, refuse
from rrl_register.config import RegisterConfig
from rrl_register.config.files import parse_json, read_text
from rrl_register.errors import InputError, UsageError

if TYPE_CHECKING:
    from pystac import Item

SUFFIXES = (".json", ".geojson")
"""Suffixes of item collections."""
_STORES = {"s3": "vsis3", "gs": "vsigs", "az": "vsiaz"}
"""GDAL's file systems of object stores, by URL scheme."""


def read_collection(
    path: Path,
    moving_asset: str,
    fixed_asset: str | None = None,
    config: RegisterConfig | None = None,
    fixed: Path | None = None,
) -> Manifest:
    """Make a scene of every item of a STAC item collection, with the item's id.

    The fixed image is an asset of the same item; or an asset of the item with the same id in another collection; or one
    image for all. Relative addresses are relative to the collection's file. Addresses on the web and in object stores
    become GDAL's ``/vsicurl/``, ``/vsis3/``, ``/vsigs/`` and ``/vsiaz/``.

    Args:
        path: The collection, a GeoJSON FeatureCollection of STAC items.
        moving_asset: Key of the asset that is the moving image.
        fixed_asset: Key of the asset that is the fixed image; None if all scenes have one fixed image.
        config: Settings of every scene; None: the defaults.
        fixed: A second collection (``.json``, ``.geojson``), or one fixed image.

    Raises:
        InputError: A file cannot be read or is no item collection.
        UsageError: The extra is missing, options contradict each other, or items lack an asset or a partner; the
            message names them.
    """
    config = config or RegisterConfig()
    find_fixed = _fixed_images(path, fixed_asset, fixed)
    scenes: list[BatchItem] = []
    problems: list[str] = []
    for item in _read_items(path):
        try:
            scenes.append(BatchItem(item.id, find_fixed(item), _image(item, moving_asset, path), config))
        except UsageError as error:
            problems.append(str(error))
    refuse(str(path), problems)
    return Manifest(" ".join(str(file.resolve()) for file in (path, fixed) if file), tuple(scenes))


def _fixed_images(path: Path, key: str | None, fixed: Path | None) -> Callable[[Item], Path]:
    """Return a function that finds the fixed image of an item."""
    if fixed is not None and fixed.suffix.lower() not in SUFFIXES:
        if key is not None:
            raise UsageError(f"--fixed-asset is given beside the one image --fixed {fixed}; choose one of them")
        reference = fixed.absolute() if fixed.exists() else fixed
        return lambda item: reference
    if key is None:
        raise UsageError(f"The items of {path} have no fixed image; pass --fixed-asset KEY or --fixed FIXED.tif")
    if fixed is None:
        return lambda item: _image(item, key, path)
    others = {item.id: item for item in _read_items(fixed)}

    def image_of_partner(item: Item) -> Path:
        """Find the item with the same id in the second collection."""
        if item.id not in others:
            raise UsageError(f"{fixed} has no item {item.id!r}")
        return _image(others[item.id], key, fixed)

    return image_of_partner


def _image(item: Item, key: str, file: Path) -> Path:
    """Convert the address of an asset to a path for GDAL."""
    if key not in item.assets:
        has = ", ".join(sorted(item.assets)) or "none"
        raise UsageError(f"the item {item.id!r} has no asset {key!r} (it has {has})")
    href = item.assets[key].href
    before, separator, rest = href.partition("://")
    scheme = before.lower() if separator else ""
    if scheme in ("http", "https"):
        return Path(f"/vsicurl/{href}")
    if scheme in _STORES:
        return Path(f"/{_STORES[scheme]}/{rest}")
    if scheme == "file":
        return Path(unquote(urlsplit(href).path))
    if scheme:
        raise UsageError(f"the address {href} has an unknown scheme (known: file, http, https, s3, gs, az)")
    return file.parent.absolute() / href


def _read_items(path: Path) -> list[Item]:
    try:
        import pystac
    except ImportError as error:
        raise UsageError(
            "STAC items need pystac, which is not installed; try: pip install 'rrl-register[stac]'"
        ) from error
    try:
        content = parse_json(read_text(path))
        if not (isinstance(content, dict) and pystac.ItemCollection.is_item_collection(content)):
            kind = content.get("type") if isinstance(content, dict) else None
            has = f"a {kind}" if kind else "something else"
            raise InputError(
                f"{path} is no STAC item collection but {has}; write the items of a search into one FeatureCollection"
            )
        return list(pystac.ItemCollection.from_dict(content, preserve_dict=False).items)
    except (OSError, ValueError, KeyError, TypeError, pystac.STACError) as error:
        raise InputError(
            f"Cannot read {path} ({' '.join(str(error).split())}); check that it has STAC items in UTF-8"
        ) from error
