"""Known vulnerabilities of what the images hold: pip-audit over each image's requirements."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipelines.cli import compile
from pipelines.cli.targets import ServiceError


def audit() -> int:
    """Prints what is known of each image.

    Returns:
        1 if something vulnerable is in one, else 0.

    Raises:
        ServiceError: the index of vulnerabilities cannot be asked.
    """
    found = 0
    for file in sorted((compile.ROOT / "images").glob("*/requirements*.txt")):
        packages = _packages(file)
        flaws = [(package, flaw) for package in packages for flaw in package.get("vulns", ())]
        unknown = [package["name"] for package in packages if "skip_reason" in package]
        name = file.relative_to(compile.ROOT)
        print(f"{name}: {len(packages) - len(unknown)} packages audited, {len(flaws)} vulnerabilities", flush=True)
        for package, flaw in flaws:
            fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
            print(f"  {package['name']} {package['version']}: {flaw['id']}, fixed in {fixed}")
        if unknown:
            print(f"  not audited, unknown to the index: {', '.join(unknown)}")
        found |= bool(flaws)
    return int(found)


def _packages(file: Path) -> list[dict[str, Any]]:
    """What pip-audit says of each package, as its JSON has it."""
    # All is pinned and hashed, so that nothing needs to be resolved or downloaded.
    command = ["--require-hashes", "--disable-pip", "--format=json", "--progress-spinner=off", f"--requirement={file}"]
    done = subprocess.run([sys.executable, "-m", "pip_audit", *command], capture_output=True, text=True)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ServiceError(f"nothing audited: the index of vulnerabilities cannot be reached: {reason[:200]}") from None
    if packages and all("skip_reason" in package for package in packages):
        raise ServiceError("nothing audited: the index of vulnerabilities, PyPI's, cannot be reached from here")
    return packages
