"""Install the missing packages of a machine, and build a release: install_release.py PROGRAMS SOURCE.

PROGRAMS is the folder of app-setup, and SOURCE the text of a source.json. A release that exists is not built again.
"""

import json
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType

sys.path.insert(0, sys.argv[1])
setup = ModuleType("setup")
SourceFileLoader("setup", f"{sys.argv[1]}/setup").exec_module(setup)
try:
    setup.install_packages([])
    setup.bring(json.loads(sys.argv[2]))
# A release's own programs may raise any exception.
except Exception as problem:
    result = {**setup.result, "kind": type(problem).__name__, "message": str(problem)}
    sys.exit(f"app-setup result: {json.dumps(result)}")
