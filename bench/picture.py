"""The README's picture: `python -m bench.picture` tests the sample shop with its defects and photographs the report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import ROOT
from stack.samples import Sample

PICTURE = ROOT / "docs" / "img" / "report.png"
_SIZE = "1280,1250"


def main() -> int:
    """Writes the picture; 2 when there is no browser."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("there is no chromium\n  -> apt-get install chromium", file=sys.stderr)
        return 2
    with TemporaryDirectory(prefix="testops-picture-") as name:
        folder = Path(name)
        shop = Sample("shop", folder / "shop", defects="all")
        shop.start()
        try:
            token = f"Authorization: Bearer {shop.variables()['TESTOPS_SHOP_ADMIN_TOKEN']}"
            testops = [sys.executable, "-m", "testops_lib.cli", "try", f"{shop.url}/openapi.json"]
            given = ["--base-url", shop.url, "-H", token, "--max-response-ms", "2500", "--out", str(folder)]
            ran = subprocess.run([*testops, *given], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        finally:
            shop.stop()
        if ran.returncode not in (0, 1):
            return ran.returncode
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={_SIZE}"]
        page, profile = (folder / "report.html").as_uri(), f"--user-data-dir={folder / 'profile'}"
        subprocess.run(
            [chromium, *options, profile, f"--screenshot={PICTURE}", page],
            check=True,
            timeout=120,
            stderr=subprocess.DEVNULL,
        )
    print(f"written: {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
