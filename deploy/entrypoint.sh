#!/bin/sh
# The container's first process. A folder that the container engine made for `-v …:/app/data` belongs to root;
# it is handed to our user once. After that neither the program nor what it starts can gain rights any more.
set -eu
if [ "$(id -u)" = 10001 ] && [ ! -w /app/data ] && command -v doas >/dev/null; then
    doas /usr/bin/chown 10001:10001 /app/data 2>/dev/null || true # what then is missing, the program says with its remedy
fi
exec setpriv --no-new-privs /app/.venv/bin/python /app/app.py "$@"
