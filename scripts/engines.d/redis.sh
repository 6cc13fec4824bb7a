# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # scripts/engines, which sources this, uses what is set here, and sets what is used
# Redis, Debian's. What it has acknowledged is in its append-only file, and is there after a kill. It asks no password.

VERSION=$(redis-server --version 2>/dev/null | sed -n 's/.* v=\([^ ]*\).*/\1/p') || VERSION=none
PORTS=1

installed() { command -v redis-server >/dev/null && command -v redis-cli >/dev/null; }

install() { need redis-server redis-server; need redis-cli redis-tools; }

prepare() {
  mkdir -p "$folder/data"
  # `everysec` may acknowledge what it has not written yet, while the disk is busy.
  # Without its title in the place of its arguments: by these its process is known again.
  cat >"$folder/redis.conf" <<CONF
bind 127.0.0.1
port ${ports[0]}
dir "$folder/data"
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
set-proc-title no
CONF
  settings "SA01_REDIS_URL=redis://127.0.0.1:${ports[0]}/0"
  command=(redis-server "$folder/redis.conf")
}

probe() { [ "$(timeout "$PROBE_SECONDS" redis-cli -p "${ports[0]}" ping 2>/dev/null)" = PONG ]; }

# redis-cli: `client redis -- get key`.
client() { redis-cli -p "${ports[0]}" "$@"; }
