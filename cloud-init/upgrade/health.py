"""Check the health of the app as a visitor sees it, by the machine's own rule: health.py PROGRAMS RECIPE.

PROGRAMS is the folder of the machine's programs, and RECIPE the path of the current release's recipe.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import serving
from step import StepError

try:
    serving.await_health(json.loads(Path(sys.argv[2]).read_text()))
except StepError as problem:
    result = {"step": "app", "kind": type(problem).__name__, "message": str(problem)}
    sys.exit(f"app-setup result: {json.dumps(result)}")
