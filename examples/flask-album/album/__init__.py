import os
from pathlib import Path

from flask import Flask

from . import db, views


def create_app():
    app = Flask(__name__, instance_relative_config=True)
    app.config.from_mapping(
        SECRET_KEY="only for development",
        PASSWORD="album",
        MAX_CONTENT_LENGTH=8 * 1024 * 1024,
        SESSION_COOKIE_SAMESITE="Lax",
    )
    app.config.from_mapping({name: os.environ[name] for name in ("SECRET_KEY", "PASSWORD") if name in os.environ})
    Path(app.instance_path, "pictures").mkdir(parents=True, exist_ok=True)
    db.init_app(app)
    app.register_blueprint(views.bp)
    return app
