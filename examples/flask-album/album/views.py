import functools
import hmac
import uuid
from pathlib import Path

from flask import (
    Blueprint,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    send_from_directory,
    session,
    url_for,
)

from .db import get_db

bp = Blueprint("album", __name__)
#: The beginning of a file, and the suffix that its pictures get.
KINDS = {b"\x89PNG\r\n\x1a\n": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif"}


def login_required(view):
    @functools.wraps(view)
    def wrapped(**kwargs):
        return view(**kwargs) if "owner" in session else redirect(url_for("album.login"))

    return wrapped


@bp.get("/")
def index():
    pictures = get_db().execute("SELECT title, file FROM picture ORDER BY id DESC").fetchall()
    return render_template("index.html", pictures=pictures)


@bp.get("/pictures/<name>")
def picture(name):
    return send_from_directory(Path(current_app.instance_path, "pictures"), name)


@bp.route("/login", methods=["GET", "POST"])
def login():
    if request.method == "POST":
        if hmac.compare_digest(request.form["password"].encode(), current_app.config["PASSWORD"].encode()):
            session["owner"] = True
            return redirect(url_for("album.index"))
        flash("That is not the password.")
    return render_template("login.html")


@bp.post("/logout")
def logout():
    session.clear()
    return redirect(url_for("album.index"))


@bp.route("/upload", methods=["GET", "POST"])
@login_required
def upload():
    if request.method == "POST":
        content = request.files["picture"].read()
        suffix = next((suffix for start, suffix in KINDS.items() if content.startswith(start)), None)
        if suffix:
            name = f"{uuid.uuid4().hex}{suffix}"
            Path(current_app.instance_path, "pictures", name).write_bytes(content)
            with get_db() as db:
                db.execute("INSERT INTO picture (title, file) VALUES (?, ?)", (request.form["title"], name))
            return redirect(url_for("album.index"))
        flash("PNG, JPEG and GIF only.")
    return render_template("upload.html")
