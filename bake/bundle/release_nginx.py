"""Generate nginx's settings of a release: limits, servers of HTTP, trusted proxies, redirects and static files."""

from __future__ import annotations

import re
from urllib.parse import unquote

from bake.config import contract
from bake.config.recipe import Recipe
from bake.config.sections import Limits
from bake.host import paths
from bake.host.templates import render


def limits(recipe: Recipe) -> str:
    """Return nginx's limits for the app, or "" if they equal those in the main file, which has none for HTTP."""
    app_limits, defaults = recipe.limits, Limits()
    if not recipe.is_http and (app_limits.body, app_limits.request) == (defaults.body, defaults.request):
        return ""
    protocol, timeout = "proxy" if recipe.is_http else "uwsgi", app_limits.request + contract.TIMEOUT_MARGIN
    return render("release/nginx/limits.conf.j2", body=app_limits.body, protocol=protocol, timeout=timeout)


def server_settings(recipe: Recipe) -> str:
    """Return the machine's server.conf. With `proxy`, the facts about the visitor are those that proxy.conf sets."""
    text = (paths.rootfs() / "usr/lib/app/nginx/server.conf").read_text()
    if recipe.proxy:
        text = re.sub(r"\$(scheme|https|port)\b", r"$app_\1", text)
    if recipe.proxy and recipe.proxy.is_cloudflare:
        text = text.replace('HTTP_CF_CONNECTING_IP ""', "HTTP_CF_CONNECTING_IP $remote_addr")
    return text


def http(recipe: Recipe) -> str:
    """Return nginx's locations for a server of HTTP. The headers are those that server.conf sets or drops for uWSGI."""
    parameters = re.findall(r"uwsgi_param HTTP_(\w+) (.+);", server_settings(recipe))
    values = {
        "door": contract.DOOR, "socket": contract.SOCKET,
        "headers": {name.replace("_", "-").title(): value for name, value in parameters},
        "is_buffered": not recipe.run, "is_proxied": recipe.proxy is not None,
    }  # fmt: skip
    return render("release/nginx/http.conf.j2", **values)


def proxy(recipe: Recipe) -> str:
    """Return nginx's settings for trusted proxies. For a WSGI app, they have a copy of the machine's location."""
    match = re.search(r"location @app \{\n(.*?)\n\}\n", server_settings(recipe), re.DOTALL)
    lines = [line for line in match[1].splitlines() if line.strip() and "#" not in line] if match else []
    networks = recipe.proxy.trust if recipe.proxy else ()
    return render(
        "release/nginx/trusted-proxies.conf.j2", networks=networks, is_http=recipe.is_http, app="\n".join(lines)
    )


def redirect(recipe: Recipe) -> str:
    """Return nginx's redirects between names with and without `www.`."""
    return render("release/nginx/redirect.conf.j2", names=recipe.redirects, is_proxied=recipe.proxy is not None)


def health(recipe: Recipe) -> str:
    """Return nginx's location of the health page in the server for other names than the machine's."""
    networks = recipe.proxy.trust if recipe.proxy else ()
    path = unquote((recipe.check.health or "/").partition("?")[0])
    # A quote at its end would let the rest of the path be settings of nginx.
    path = re.sub(r"([\"\\])", r"\\\1", path)
    return render("release/health.conf.j2", networks=networks, path=path)


def static(recipe: Recipe) -> str:
    """Return nginx's locations for static files. If nginx does not have a file or cannot read it, the app responds."""
    source = f"{contract.CURRENT}/source"
    folders = {prefix: f"{source}/{path}" for prefix, path in (recipe.static or {}).items()}
    return "".join(location(recipe, prefix, folder, source) for prefix, folder in sorted(folders.items()))


def location(recipe: Recipe, prefix: str, folder: str, root: str) -> str:
    """Return nginx's location for the files of a folder. `root` is above it, in a folder that belongs to root."""
    values = {
        "prefix": prefix, "folder": folder,
        "server": "http" if recipe.is_http else "proxied" if recipe.proxy else "app",
        "root": root, "is_proxied": recipe.proxy is not None,
    }  # fmt: skip
    return render("release/nginx/location.conf.j2", **values)


def collected_static(recipe: Recipe) -> str:
    """Return nginx's location for Django's static files. The machine replaces the URL when it knows it."""
    return location(recipe, contract.STATIC_URL, contract.COLLECTED_STATIC, contract.CACHE)
