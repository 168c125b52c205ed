import sqlite3
from pathlib import Path

from flask import current_app, g


def get_db():
    if "db" not in g:
        g.db = sqlite3.connect(Path(current_app.instance_path, "album.sqlite"))
        g.db.row_factory = sqlite3.Row
    return g.db


def close_db(error=None):
    if (db := g.pop("db", None)) is not None:
        db.close()


def init_app(app):
    app.teardown_appcontext(close_db)
    with app.app_context(), app.open_resource("schema.sql", "r") as schema:
        get_db().executescript(schema.read())
