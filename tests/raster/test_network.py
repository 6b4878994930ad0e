"""A registration asks no server and writes nothing but its outputs; GDAL asks one only for a path of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from rrl_register.cli import main
from rrl_register.errors import InputError
from rrl_register.geometry.window import Box
from rrl_register.raster.reader import open_info, read_bands
from rrl_register.raster.sources import FileSource

WRITING = re.compile(r'^\d+ +(?:open|openat|creat)\((?:AT_FDCWD, |\d+, )?"([^"]+)".*(?:O_WRONLY|O_RDWR|O_CREAT)')
MAKING = re.compile(r'^\d+ +(?:mkdir|mkdirat|link|symlink|mknod|mknodat|rename|renameat2?)\(.*?"([^"]+)"')
NETWORK = re.compile(r"^\d+ +(?:connect|bind|sendto|sendmsg|socket)\(.*AF_INET")
HARMLESS = re.compile(r"/dev/(null|shm/.*|tty)|/proc/.*")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not on PATH; `make strace` tries to install it")
def test_a_traced_registration_opens_no_socket_and_writes_its_outputs_only(samples: Path, tmp_path: Path) -> None:
    home, out, trace = tmp_path / "home", tmp_path / "out", tmp_path / "trace"
    home.mkdir()
    out.mkdir()
    names = [str(samples / f"rgb_nir_{which}.tif") for which in ("fixed", "moving")]
    outputs = ["-o", str(out / "aligned.tif"), "--json", str(out / "result.json"), "--report", str(out / "page.html")]
    # Bytecode belongs to Python and is written once, on the first import.
    environment = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("ORT_DISABLE_TELEMETRY", "PROJ_NETWORK", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    command = ["strace", "-f", "-qq", "-e", "trace=network,%file", "-o", str(trace)]
    command += [sys.executable, "-m", "rrl_register", *names, *outputs, "--quiet"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    traced = trace.read_text(errors="replace").splitlines()
    assert len(traced) > 100
    assert [line for line in traced if NETWORK.match(line)] == []
    lines = [line for line in traced if " = -1 " not in line]
    written = {found[1] for line in lines if (found := WRITING.match(line) or MAKING.match(line))}
    assert written
    assert {path for path in written if not path.startswith(f"{out}/") and not HARMLESS.fullmatch(path)} == set()
    assert sorted(path.name for path in out.iterdir()) == ["aligned.tif", "page.html", "result.json"]
    assert list(home.iterdir()) == []


class Server(ThreadingHTTPServer):
    """Counts the requests, and answers none."""

    asked = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Refusal(BaseHTTPRequestHandler):
    """Answers that there is no such file."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_error(404)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Refusal) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


VRT = """<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename relativeToVRT="0">/vsicurl/{address}/a.tif</SourceFilename><SourceBand>1</SourceBand>
</SimpleSource></VRTRasterBand></VRTDataset>"""
SERVICE = """<GDAL_WMS><Service name="TMS"><ServerUrl>{address}/${{z}}_${{x}}_${{y}}.png</ServerUrl></Service>
<DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>9</UpperLeftY><LowerRightX>9</LowerRightX><LowerRightY>0</LowerRightY>
<TileLevel>1</TileLevel><TileCountX>1</TileCountX><TileCountY>1</TileCountY></DataWindow>
<BlockSizeX>64</BlockSizeX><BlockSizeY>64</BlockSizeY><BandsCount>1</BandsCount></GDAL_WMS>"""


@pytest.mark.parametrize("content", [VRT, SERVICE], ids=["source", "service"])
def test_an_address_in_a_file_is_not_asked(server: Server, tmp_path: Path, content: str) -> None:
    path = tmp_path / "local.vrt"
    path.write_text(content.format(address=server.address))
    with pytest.raises(InputError, match=r"Cannot read .*local\.vrt"):
        read_bands(path)
    with FileSource(path) as source, pytest.raises(InputError, match="Cannot read"):
        source.read(0, Box(0, 64, 0, 64))
    assert server.asked == 0


def test_a_remote_path_is_asked_for(server: Server) -> None:
    with pytest.raises(InputError):
        open_info(Path(f"/vsicurl/{server.address}/a.tif"))
    assert server.asked > 0


@pytest.mark.parametrize("suffix", [".json", ".points"])
def test_an_address_for_a_crs_is_not_asked(server: Server, samples: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"points{suffix}"
    address = f"{server.address}/crs.wkt"
    header = f"#CRS: {address}\nmapX,mapY,sourceX,sourceY,enable\n1,2,3,4,1\n"
    grid = f'{{"width": 9, "height": 9, "crs": "{address}", "transform": null}}'
    result = f'{{"schema": 2, "fixed_grid": {grid}, "moving_grid": {grid}, "matrix": null, "tie_points": []}}'
    path.write_text(header if suffix == ".points" else result)
    images = [str(samples / f"rgb_nir_{which}.tif") for which in ("fixed", "moving")]
    done = CliRunner(catch_exceptions=False).invoke(main, ["refit", str(path), *images, "--json", str(tmp_path / "r")])
    assert (done.exit_code, done.stderr.count("\n")) == (3, 1)
    assert server.asked == 0
