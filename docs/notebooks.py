"""MkDocs hook: add the notebooks of examples/ to the site as pages, with the outputs they were committed with."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add ``notebooks/NAME.md`` and its pictures for each notebook."""
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        resources = {"output_files_dir": f"{path.stem}_files"}
        text, made = MarkdownExporter().from_filename(str(path), resources)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, picture in made["outputs"].items():
            files.append(File.generated(config, f"notebooks/{name}", content=picture))
    return files
