"""Map the modules that apps import to the distributions that contain them.

bake proposes only distributions in this table. To guess one from the name of a module could install a stranger's
package that happens to have the name.
"""

from __future__ import annotations

from bake.app.frameworks import FRAMEWORKS

#: Modules, and the distributions with another name that contain them.
OTHER_NAMES = {
    "Crypto": "pycryptodome", "MySQLdb": "mysqlclient", "OpenSSL": "pyOpenSSL", "PIL": "pillow",
    "allauth": "django-allauth", "attr": "attrs", "axes": "django-axes", "bs4": "beautifulsoup4",
    "ckeditor": "django-ckeditor", "compressor": "django-compressor", "constance": "django-constance",
    "corsheaders": "django-cors-headers", "crispy_forms": "django-crispy-forms",
    "cv2": "opencv-python-headless", "dateutil": "python-dateutil", "debug_toolbar": "django-debug-toolbar",
    "decouple": "python-decouple", "django_filters": "django-filter", "docx": "python-docx",
    "dotenv": "python-dotenv", "environ": "django-environ", "fitz": "PyMuPDF", "git": "GitPython",
    "guardian": "django-guardian", "hijack": "django-hijack",
    "imagekit": "django-imagekit", "import_export": "django-import-export", "jose": "python-jose",
    "jwt": "PyJWT", "ldap": "python-ldap", "magic": "python-magic", "model_utils": "django-model-utils",
    "mptt": "django-mptt", "nacl": "PyNaCl", "oscar": "django-oscar", "pkg_resources": "setuptools",
    "polymorphic": "django-polymorphic", "pptx": "python-pptx", "psycopg2": "psycopg2-binary",
    "rest_framework": "djangorestframework", "rest_framework_simplejwt": "djangorestframework-simplejwt",
    "reversion": "django-reversion", "simple_history": "django-simple-history", "skimage": "scikit-image",
    "sklearn": "scikit-learn", "slugify": "python-slugify", "social_django": "social-auth-app-django",
    "socketio": "python-socketio", "sorl": "sorl-thumbnail", "storages": "django-storages",
    "taggit": "django-taggit", "telegram": "python-telegram-bot", "tinymce": "django-tinymce",
    "treebeard": "django-treebeard", "waffle": "django-waffle", "web": "web.py",
    "widget_tweaks": "django-widget-tweaks", "yaml": "PyYAML", "zmq": "pyzmq",
}  # fmt: skip
#: Modules whose distribution has their name, apart from `-` and `_`.
SAME_NAMES = frozenset(
    {
        "aiocache", "aiofiles", "aiohttp", "aiohttp_jinja2", "aiohttp_session", "aioredis", "aiosqlite",
        "alembic", "altair", "anthropic", "apscheduler", "arrow", "asgiref", "asyncpg", "authlib", "babel",
        "bcrypt", "bleach", "blinker", "bokeh", "boto3", "botocore", "braintree", "cachetools", "celery",
        "certifi", "cffi", "channels", "channels_redis", "chardet", "click", "colorama", "crispy_bootstrap5",
        "cryptography", "daphne", "dash_bootstrap_components", "datasette", "dj_database_url",
        "django_celery_beat", "django_celery_results", "django_countries", "django_extensions",
        "django_htmlx", "django_redis", "django_rq", "django_tables2", "dramatiq", "drf_spectacular",
        "drf_yasg", "duckdb", "easy_thumbnails", "elasticsearch", "email_validator", "eventlet", "faker",
        "fakeredis", "feedgen", "feedparser", "flask_admin", "flask_appbuilder", "flask_apscheduler",
        "flask_assets", "flask_babel", "flask_bcrypt", "flask_bootstrap", "flask_caching", "flask_compress",
        "flask_cors", "flask_dance", "flask_debugtoolbar", "flask_httpauth", "flask_jwt_extended",
        "flask_limiter", "flask_login", "flask_mail", "flask_marshmallow", "flask_migrate", "flask_moment",
        "flask_pagedown", "flask_principal", "flask_restful", "flask_restx", "flask_session", "flask_smorest",
        "flask_sock", "flask_socketio", "flask_sqlalchemy", "flask_talisman", "flask_wtf", "folium", "geopy",
        "gevent", "gradio", "gunicorn", "holoviews", "html5lib", "httpx", "huey", "humanize", "hvplot",
        "importlib_metadata", "itsdangerous", "jinja2", "jsonschema", "kombu", "loguru", "lxml", "mako",
        "markdown", "markupsafe", "marshmallow", "matplotlib", "mistune", "mongoengine", "motor", "nicegui",
        "nltk", "numpy", "oauthlib", "openai", "openpyxl", "orjson", "packaging", "pandas", "panel",
        "paramiko", "passlib", "peewee", "phonenumbers", "plotly", "polars", "pony", "prometheus_client",
        "psutil", "psycopg", "pyarrow", "pycountry", "pydantic", "pydantic_settings", "pydeck", "pygments",
        "pymongo", "pymysql", "pyotp", "pypdf", "pytesseract", "pytz", "qrcode", "rcssmin", "redis",
        "reportlab", "requests", "requests_oauthlib", "rq", "sanic", "sanic_ext", "scipy", "seaborn",
        "sendgrid", "sentry_sdk", "shortuuid", "simple_websocket", "simplejson", "six", "sqlalchemy",
        "sqlalchemy_utils", "sqlmodel", "sse_starlette", "streamlit", "stripe", "sympy", "tabulate",
        "tenacity", "tiktoken", "tldextract", "tornado", "tqdm", "twilio", "tzlocal", "ujson", "urllib3",
        "user_agents", "uvicorn", "validators", "wagtail", "waitress", "websockets", "werkzeug", "whitenoise",
        "wtforms", "xlrd", "xlsxwriter", "xmltodict", "zeep", "zstandard",
    }
)  # fmt: skip
#: The newest releases of setuptools that contain pkg_resources.
OLD_SETUPTOOLS = "setuptools<82"


def distribution(module: str) -> str | None:
    """Return the distribution that contains a top-level module, or None if bake does not know it."""
    if name := OTHER_NAMES.get(module):
        return name
    return module.replace("_", "-") if module in SAME_NAMES or module in FRAMEWORKS else None


def requirement(module: str) -> str | None:
    """Return the requirement for a top-level module, with its bound, or None if bake does not know one."""
    return OLD_SETUPTOOLS if module == "pkg_resources" else distribution(module)
