"""List the frameworks that bake knows: the calls that create their apps."""

#: Callables that create a WSGI app, by their dotted names.
WSGI_MAKERS = {
    "a2wsgi.ASGIMiddleware",
    "apiflask.APIFlask",
    "bottle.Bottle",
    "bottle.default_app",
    "cherrypy.Application",
    "cherrypy.tree.mount",
    "dash.Dash",
    "django.core.wsgi.get_wsgi_application",
    "eve.Eve",
    "falcon.API",
    "falcon.App",
    "flask.Flask",
    "flask.app.Flask",
    "flask_openapi3.OpenAPI",
    "paste.deploy.loadapp",
    "pyramid.paster.get_app",
    "web.application",
}
#: Methods that create a WSGI app: of Pyramid's Configurator, and of web.py's application.
WSGI_METHODS = {"make_wsgi_app", "wsgifunc"}
#: The apps of connexion: ASGI apps since version 3, and objects with a WSGI app before (see `framework_versions`).
CONNEXION_MAKERS = {"connexion.App", "connexion.FlaskApp", "connexion.apps.flask_app.FlaskApp"}
#: Classes of objects that contain or create the WSGI app, such as Dash with its Flask app.
INNER = {"dash.Dash": ".server", "web.application": ".wsgifunc()", **dict.fromkeys(CONNEXION_MAKERS, ".app")}
#: Bottle's decorators that add routes to its default app.
BOTTLE_ROUTES = {f"bottle.{name}" for name in ("route", "get", "post", "put", "delete", "patch")}
#: Callables that create an ASGI app.
ASGI_MAKERS = {
    *CONNEXION_MAKERS,
    "a2wsgi.WSGIMiddleware",
    "asgiref.wsgi.WsgiToAsgi",
    "channels.routing.ProtocolTypeRouter",
    "connexion.AsyncApp",
    "connexion.apps.asynchronous.AsyncApp",
    "connexion.apps.flask.FlaskApp",
    "django.core.asgi.get_asgi_application",
    "falcon.asgi.App",
    "fastapi.FastAPI",
    "fastapi.applications.FastAPI",
    "litestar.Litestar",
    "litestar.app.Litestar",
    "quart.Quart",
    "quart.app.Quart",
    "socketio.ASGIApp",
    "starlette.applications.Starlette",
}
#: Packages with which a WSGI app speaks WebSocket.
WEBSOCKETS = {"flask_sock", "flask_socketio", "simple_websocket"}
#: Callables of python-socketio that make a server.
SOCKETIO_MAKERS = {"socketio.ASGIApp", "socketio.AsyncServer", "socketio.Server", "socketio.WSGIApp"}
#: The last parts of the names of calls and decorators with which an ASGI app gets a WebSocket.
WEBSOCKET_CALLS = {"add_websocket_route", "websocket", "websocket_listener", "websocket_route", "WebSocketRoute"}
#: Starts its own server. It has the arguments of cherrypy.tree.mount.
QUICKSTART = "cherrypy.quickstart"
MAKERS = {*WSGI_MAKERS, *ASGI_MAKERS, QUICKSTART}
#: Frameworks by the first part of their modules' names. `paste` is in several distributions.
FRAMEWORKS = {maker.partition(".")[0] for maker in (*WSGI_MAKERS, *ASGI_MAKERS)} - {"paste"}
