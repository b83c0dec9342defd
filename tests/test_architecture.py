"""The API layer stands alone."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

from airflow_provider_diffio import api


def test_the_api_layer_imports_nothing_of_airflow_or_the_sandbox() -> None:
    modules = [f"{api.__name__}.{module.name}" for module in pkgutil.iter_modules(api.__path__)]
    assert f"{api.__name__}.client" in modules
    program = (
        f"import sys, {', '.join(modules)};"
        "ours = [m for m in sys.modules if m.startswith('airflow_provider_diffio.')];"
        "bad = [m for m in ours if not m.startswith('airflow_provider_diffio.api')];"
        "print(*bad, *(m for m in sys.modules if m.split('.')[0] == 'airflow'))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip(), run.stderr.strip()) == (0, "", "")
