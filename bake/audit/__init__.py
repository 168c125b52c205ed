"""Find known vulnerabilities in the wheels and the Debian packages of an app, an image or a machine."""
