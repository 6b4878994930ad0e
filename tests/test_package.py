"""The package as a whole: what importing it costs, what it exports, what is said about it."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rrl_register

HEAVY = ("torch", "cv2", "rasterio", "scipy", "numpy")


@pytest.mark.parametrize(
    "code",
    [
        "import rrl_register",
        "import rrl_register.cli",
        "from rrl_register import RegisterConfig, Kind, RegistrationError",
        "from click.testing import CliRunner; from rrl_register.cli import main; CliRunner().invoke(main, ['-h'])",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    check = f"{code}\nimport sys\nprint([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_wrong_use_is_told_without_loading_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from rrl_register.cli import main\n"
        f"result = CliRunner().invoke(main, [{str(tmp_path / 'no.tif')!r}, 'no.tif', '-o', 'out.tif'])\n"
        "print(result.exit_code, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "2 False"


@pytest.mark.parametrize("name", rrl_register.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(rrl_register, name)
    if name == "__version__":
        return
    text = inspect.getdoc(thing) or ""
    assert text
    # What dataclass and Enum write by themselves is no description.
    assert not text.startswith(f"{name}(")


def test_names_are_listed_before_they_are_loaded() -> None:
    assert set(dir(rrl_register)) == set(rrl_register.__all__)


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = rrl_register.no_such_name


def test_version_is_printed() -> None:
    command = [sys.executable, "-m", "rrl_register", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"rrl-register, version {rrl_register.__version__}"


def test_every_dependency_says_why_it_is_there() -> None:
    """A bound without a reason cannot be raised later by anyone who was not there."""
    path = Path(__file__).resolve().parents[1] / "pyproject.toml"
    project = tomllib.loads(path.read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    lines = path.read_text().splitlines()
    for requirement in (name for group in groups for name in group if not name.startswith("rrl-register")):
        line = next(line for line in lines if f'"{requirement}"' in line)
        assert "  # " in line
