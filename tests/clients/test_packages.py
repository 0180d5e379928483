"""What would be published: the right files, one version, and an import that works."""

import json
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import hubbub_client
import pytest

ROOT = Path(__file__).parents[2]
JAVASCRIPT, PYTHON = ROOT / "clients/js", ROOT / "clients/python"


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_packages_have_one_version_and_licence() -> None:
    server = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = json.loads((JAVASCRIPT / "package.json").read_text())
    versions = {server["version"], package["version"], hubbub_client.__version__}
    assert len(versions) == 1
    assert server["license"] == package["license"] == "Apache-2.0"
    licence = (ROOT / "LICENSE").read_bytes()
    assert [(client / "LICENSE").read_bytes() for client in (JAVASCRIPT, PYTHON)] == [licence] * 2


@pytest.mark.timeout(180)
def test_the_javascript_package(tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("no npm on PATH")
    run(npm, "pack", "--ignore-scripts", "--pack-destination", str(tmp_path), folder=JAVASCRIPT)
    (packed,) = tmp_path.glob("*.tgz")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="data")
    package = tmp_path / "package"
    files = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    source = {f"src/{path.name}" for path in JAVASCRIPT.glob("src/*.js")}
    shipped = {"LICENSE", "README.md", "package.json", "hubbub.js", "hubbub.d.ts"}
    assert files == shipped | source
    (tmp_path / "node_modules").mkdir()
    package.rename(tmp_path / "node_modules/hubbub")
    script = "import * as all from 'hubbub'; console.log(Object.keys(all).join())"
    told = run(node, "--input-type=module", "-e", script, folder=tmp_path)
    assert told.strip() == "ChatClient,Hubbub,HubbubError"


@pytest.mark.timeout(180)
def test_the_python_package(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(PYTHON, source, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    script = "from setuptools import build_meta as b; print(b.build_wheel('..'))"
    name = run(sys.executable, "-W", "ignore", "-c", script, folder=source).split()[-1]
    with zipfile.ZipFile(tmp_path / name) as wheel:
        files = set(wheel.namelist())
        (described,) = (file for file in files if file.endswith("/METADATA"))
        metadata = message_from_string(wheel.read(described).decode())
    modules = {f"hubbub_client/{path.name}" for path in PYTHON.glob("src/hubbub_client/*.py")}
    assert {file for file in files if ".dist-info/" not in file} == {
        *modules,
        "hubbub_client/py.typed",
    }
    assert any(file.endswith("/LICENSE") for file in files)
    assert metadata["Version"] == hubbub_client.__version__
    assert "# hubbub-client" in str(metadata.get_payload())
    assert set(metadata.get_all("Provides-Extra", [])) == {"http"}
