"""Where a result was made: device, versions, commit. A figure that cannot say this cannot be made again."""

import contextlib
import datetime
import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGE = Path(__file__).parent


def provenance() -> dict:
    """device, versions, commit and date of a results line."""
    return {**session(), "date": now()}


def session() -> dict:
    """What a program that trains or measures runs on: device, versions, commit."""
    return {"device": device(), "versions": versions(), "commit": commit()}


def joined(sessions: list[dict]) -> dict:
    """Of several sessions, in order: what they share said once, what differs one after the other ("a1b2c3d, e4f5a6b")."""
    def every(values) -> str:
        return ", ".join(dict.fromkeys(values))
    packages = dict.fromkeys(name for each in sessions for name in each["versions"])
    return {"device": every(each["device"] for each in sessions),
            "versions": {name: every(each["versions"][name] for each in sessions if name in each["versions"]) for name in packages},
            "commit": every(each["commit"] for each in sessions)}


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def versions() -> dict[str, str]:
    packages = ("jax", "jaxlib", "flax", "numpy")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


@functools.cache
def device() -> str:
    """What jax computes on: "cpu: AMD EPYC 7763, 2 cores", "gpu: NVIDIA H100 80GB HBM3 x1"."""
    import jax

    devices = jax.devices()
    if devices[0].platform != "cpu":
        return f"{devices[0].platform}: {devices[0].device_kind} x{len(devices)}"
    return f"cpu: {cpu_name()}, {cores()} cores"


def cores() -> int:
    """Cores this program may use, which is what counts in a container or under a batch system."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def cpu_name() -> str:
    return cpu("model name") or platform.processor() or platform.machine()


def instructions() -> str:
    """The instruction sets of the processor, as far as the system tells."""
    return cpu("flags") or cpu("Features") or f"{platform.machine()} {platform.processor()}"


def cpu(key: str) -> str:
    """One entry of Linux's /proc/cpuinfo; empty elsewhere."""
    with contextlib.suppress(OSError):
        for text in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = text.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


def checkout() -> Path | None:
    """The folder of the checkout this package runs from, or None for an installed copy."""
    root = PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() else None


def commit() -> str:
    """Short hash of the checkout's commit, "-dirty" when the code that makes results differs from it; "" outside git."""
    if not checkout() or not (checkout() / ".git").exists():
        return ""

    def git(*words):
        return subprocess.run(("git", "-C", checkout(), *words), capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "lcref", "experiments", "pyproject.toml")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
