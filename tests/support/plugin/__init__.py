"""Engine plug-ins for tests: packages with an entry point, and one that fails as it is told."""

from __future__ import annotations

from pathlib import Path


def write_package(folder: Path, name: str, source: str, target: str = "engine") -> None:
    """Writes a distribution into a folder of the import path, as pip would leave it: a module,
    and metadata with one entry point of the same name."""
    module = f"{name.replace('-', '_')}_module"
    (folder / f"{module}.py").write_text(source)
    about = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(f"[runner.engines]\n{name} = {module}:{target}\n")
