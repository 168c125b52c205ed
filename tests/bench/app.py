"""The app that the benchmark serves: a small page, a page that computes, and a page that waits."""

import time

from flask import Flask, render_template_string

app = Flask(__name__)
TABLE = "<table>{% for row in rows %}<tr><td>{{ row }}</td><td>{{ row * row }}</td></tr>{% endfor %}</table>"


@app.get("/small")
def small() -> str:
    """Answer at once, so that mostly the server computes."""
    return "small"


@app.get("/cpu")
def cpu() -> str:
    """Render a table of 500 rows, which takes a few milliseconds of CPU time."""
    return render_template_string(TABLE, rows=range(500))


@app.get("/wait")
def wait() -> str:
    """Wait for 50 ms, as for a database."""
    time.sleep(0.05)
    return "waited"
