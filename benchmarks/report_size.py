"""Bytes of a report and seconds until a browser shows it.

python benchmarks/report_size.py RESULT.json FIXED MOVING [--runs N]

Makes the report of a registration from its result file and opens it in the system's Chromium, N times, each in a
browser of its own. Prints one line of JSON: seconds to write the page, its bytes, and seconds from the request until
the page is loaded (`load`) and until the viewer has drawn both images (`drawn`), and the processor seconds of all the
browser's processes until then (`cpu`), which a busy machine changes less; median and fastest of the runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rrl_register.report import read_case, write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRAWN = """
Promise.all(Array.from(document.images, image => image.decode()))
    .then(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))))
"""


def main() -> None:
    """Read the arguments, write the page, open it, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("result", "fixed", "moving"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    parser.add_argument("--runs", type=int, default=5, help="times to open it (default: 5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        start = time.perf_counter()
        write_report(read_case(arguments.result, arguments.fixed, arguments.moving, settings_known=False), page)
        seconds = time.perf_counter() - start
        opened = [open_page(page) for _ in range(arguments.runs)]
        size = page.stat().st_size
    times = {name: round(median(run[name] for run in opened), 3) for name in opened[0]}
    fastest = {f"fastest_{name}": round(min(run[name] for run in opened), 3) for name in opened[0]}
    print(json.dumps({"seconds_to_write": round(seconds, 2), "bytes": size, **times, **fastest}))


def open_page(page: Path) -> dict[str, Any]:
    """Open a page in a browser of its own; seconds until it was loaded and until it was drawn."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is installed; try: make browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        tab = browser.new_page()
        used = cpu_seconds(browser)
        start = time.perf_counter()
        tab.goto(page.as_uri())
        loaded = time.perf_counter() - start
        tab.evaluate(DRAWN)
        drawn = time.perf_counter() - start
        used = cpu_seconds(browser) - used
        browser.close()
    return {"load": loaded, "drawn": drawn, "cpu": used}


def cpu_seconds(browser: Any) -> float:
    """Processor time that all processes of a browser have used."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return float(sum(process["cpuTime"] for process in processes))


if __name__ == "__main__":
    main()
