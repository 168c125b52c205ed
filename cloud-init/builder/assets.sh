# Build a front end in /tmp/app, and write its folders to standard output as a tar archive.
#
# /tmp/input has the app's source in app/, the commands in `install` and `run`, the folder of package.json in `source`,
# and the folders of the result in `folders`, each with a zero byte. `tool` names the package of pnpm or yarn; it is empty
# for npm. `registry` has a URL, or is empty for the default one. The log goes to standard error.
#
# Standard input is a socket to bake. Each step sends its name and waits for a reply. The first step, `install`, also sends
# a listening socket, where bake is a proxy to the package registry. With the next step, bake closes it. No command of the
# build has the socket to bake, and there is no other network. enter.sh runs these lines as root of the namespaces, and
# defines `unprivileged`.
# shellcheck shell=sh
exec 3<&0 0</dev/null
input=/tmp/input home=/tmp/home
step() {
    python3 -I "$input/announce.py" "$@" <&3
}
tools() {
    unprivileged env "PATH=$home/tools/bin:$PATH" "$@" 3<&- >&2
}
# The install scripts of packages run in a step without network.
online() {
    tools env "HTTPS_PROXY=$proxy" "https_proxy=$proxy" "YARN_HTTPS_PROXY=$proxy" "NODE_EXTRA_CA_CERTS=$input/ca.pem" \
        "npm_config_registry=$registry" "YARN_NPM_REGISTRY_SERVER=$registry" YARN_ENABLE_SCRIPTS=0 \
        npm_config_ignore_scripts=true npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false "$@"
}

mv "$input/app" /tmp/app
chown -R "$user:$user" /tmp/app
install=$(cat "$input/install") run=$(cat "$input/run") tool=$(cat "$input/tool") registry=$(cat "$input/registry")
if [ "$install" ]; then
    registry=${registry:-$(unprivileged npm config get registry 3<&-)}
    proxy=http://127.0.0.1:$(step install "$registry")
    if [ "$tool" ]; then
        online npm install --global --prefix "$home/tools" "$tool"
    fi
    cd "/tmp/app/$(cat "$input/source")"
    # The first yarn has no variable that turns install scripts off. It locks addresses of a default registry of its own,
    # which has the same packages.
    if [ -e yarn.lock ] && [ "${tool#yarn@1}" != "$tool" ]; then
        unprivileged sh -c 'echo "--install.ignore-scripts true" > ~/.yarnrc' 3<&-
        address="https://[^/]+/((@[^/]+/)?[^/]+/-/)"
        unprivileged sed -E -i "s#( resolved \"?)$address#\\1${registry%/}/\\2#" yarn.lock 3<&-
    fi
    online sh -c "$install"
    step rebuild
    case $tool in
        pnpm@*) tools pnpm rebuild ;;
        *) tools npm rebuild ;;
    esac || echo "bake: that step failed; if the build fails too, see its output above" >&2
fi
cd "/tmp/app/$(cat "$input/source")"
step run
: > "$input/started"
tools sh -c "$run"
step pack
cd /tmp/app
if ! unprivileged tar --create --hard-dereference --null --files-from="$input/folders" 3<&-; then
    echo "bake: the build wrote to these folders:" >&2
    unprivileged find . -name node_modules -prune -o -type d -newer "$input/started" -print 3<&- >&2
    exit 1
fi
