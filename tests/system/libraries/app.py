"""An app that tries one library for each request, in a process of its own: it inherits the app's sandbox."""

import os
import subprocess

from flask import Flask

app = Flask(__name__)


@app.route("/")
def index():
    return "libraries"


@app.route("/try/<name>")
def attempt(name):
    # uWSGI's sys.executable is not Python.
    env = {**os.environ, "COLUMNS": "200"}
    words = ["python3", "trials.py", name]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=400, env=env, errors="replace")
    except subprocess.TimeoutExpired:
        return "no end within 400 s"
    if done.returncode == 0:
        return "works"
    lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
    return f"status {done.returncode}: {lines[-1][:200]}"
