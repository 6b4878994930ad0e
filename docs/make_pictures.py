"""Make the pictures of README and docs from what `make pictures` registered.

python docs/make_pictures.py RUN DIR

RUN holds preview.png and report.html. The report is photographed by Chromium; without it, its picture is left as it is.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2

WIDTH = 1200
QUALITY = 74
WINDOW = "1200,900"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Write demo.jpg and report.jpg."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder with preview.png and report.html")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the pictures go")
    arguments = parser.parse_args()
    write_jpeg(arguments.run / "preview.png", arguments.folder / "demo.jpg")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"none of {', '.join(BROWSERS)} is installed: no picture of the report", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "report.png")
        photograph(browser, arguments.run / "report.html", picture)
        write_jpeg(picture, arguments.folder / "report.jpg")


def photograph(browser: str, page: Path, target: Path) -> None:
    """Show the top of a page in a window and save what is seen as PNG."""
    seen = (f"--window-size={WINDOW}", "--hide-scrollbars", f"--screenshot={target}", page.resolve().as_uri())
    subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", *seen], check=True, capture_output=True)


def write_jpeg(source: Path, target: Path) -> None:
    """Reduce a picture to a JPEG that a page can carry."""
    picture = cv2.imread(str(source))
    if picture is None:
        sys.exit(f"{source} is no picture: run `make pictures`")
    height = round(picture.shape[0] * WIDTH / picture.shape[1])
    small = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(target), small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    print(target)


if __name__ == "__main__":
    main()
