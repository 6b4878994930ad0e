"""Make the pictures of README and docs from what `make demo` wrote.

python docs/make_pictures.py PREVIEW.png DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

WIDTH = 1200
QUALITY = 85


def main() -> None:
    """Reduce the preview to a JPEG that a page can carry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preview", type=Path, metavar="PREVIEW.png", help="what `rrl-register --preview` drew")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where demo.jpg goes")
    arguments = parser.parse_args()
    picture = cv2.imread(str(arguments.preview))
    if picture is None:
        parser.error(f"{arguments.preview} is no picture; make it by `make demo`")
    height = round(picture.shape[0] * WIDTH / picture.shape[1])
    small = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
    target = arguments.folder / "demo.jpg"
    cv2.imwrite(str(target), small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    print(target)


if __name__ == "__main__":
    main()
