"""CDI specs: the devices that files in a Docker Engine's folders describe."""

from __future__ import annotations

from collections.abc import Iterable

from runner.hardware.probe import Probe

SUFFIXES = ("yaml", "yml", "json")


def device_names(probe: Probe, folders: Iterable[str]) -> tuple[str, ...]:
    """Such as nvidia.com/gpu=0, sorted; a file that can't be read as a spec counts for nothing,
    as it does for Docker."""
    paths = [
        path
        for folder in folders
        for suffix in SUFFIXES
        for path in probe.glob(f"{folder}/*.{suffix}")
    ]
    return tuple(sorted({name for path in paths for name in _names(probe.read(path))}))


def _names(text: str | None) -> list[str]:
    import yaml

    try:
        spec = yaml.safe_load(text or "")
    except (yaml.YAMLError, ValueError, RecursionError):
        return []
    if not isinstance(spec, dict) or not isinstance(spec.get("devices"), list):
        return []
    return [
        f"{spec.get('kind')}={device['name']}"
        for device in spec["devices"]
        if isinstance(device, dict) and "name" in device
    ]
