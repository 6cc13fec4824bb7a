# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # scripts/engines, which sources this, uses what is set here, and sets what is used
# PostgreSQL, Debian's. What it has committed is there after a kill: it syncs. Its superuser and database are `soma`, and
# the password, drawn when its data is made, is asked for on the socket too.
#
# It refuses to run as root. Started by root it runs as Debian's user `postgres`, and where that user may not enter the
# cache (as below /root), with the right to do so and no other of root's.

PORTS=1
# A smart stop, which SIGTERM asks for, waits for whoever is connected.
STOP_SIGNAL=INT
SERVER_USER=postgres

# Data made by one major version is read by that one alone.
major() {
  local made="$folder/server/data/PG_VERSION"
  if [ -r "$made" ]; then cat "$made"; return; fi
  { find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/postgres' 2>/dev/null || true; } | cut -d/ -f5 | sort -n | tail -n 1
}

folder="${folder:-}"
VERSION=$(major)
BIN="/usr/lib/postgresql/$VERSION/bin"

installed() { [ -x "$BIN/postgres" ] && [ -x "$BIN/initdb" ] && [ -x "$BIN/psql" ]; }

install() {
  [ -z "$VERSION" ] || [ -x "$BIN/postgres" ] || fail "the data in $folder is PostgreSQL $VERSION's: apt-get install postgresql-$VERSION, or take it down with --forget"
  fail "PostgreSQL's server is not in /usr/lib/postgresql/*/bin: apt-get install postgresql"
}

# Tried, not asked: access(2) looks at the user alone, not at what else the process may do.
may_write() { "${as_server[@]}" mkdir "$folder/server/try" 2>/dev/null && rmdir "$folder/server/try"; }

# Sets `as_server` to what goes before a command so that it runs as one who is not root.
choose_user() {
  as_server=()
  [ "$(id -u)" -eq 0 ] || return 0
  id "$SERVER_USER" >/dev/null 2>&1 || fail "PostgreSQL does not run as root, and there is no user $SERVER_USER: apt-get install postgresql"
  need setpriv util-linux
  chown "$SERVER_USER:" "$folder/server"
  as_server=(setpriv "--reuid=$SERVER_USER" "--regid=$(id -g "$SERVER_USER")" --clear-groups)
  if ! may_write; then
    as_server+=("--inh-caps=-all,+dac_override" "--ambient-caps=-all,+dac_override" "--bounding-set=-all,+dac_override")
  fi
  may_write || fail "user $SERVER_USER can't write in $folder/server: set SOMA_CACHE to a folder that it may enter"
}

initialise() {
  local new="$folder/server/data.new" password_file="$folder/server/password.new" result=0
  rm -rf "$new" "$password_file"
  [ -s "$folder/password" ] || draw_password | keep_secret "$folder/password"
  (umask 077 && cat "$folder/password" >"$password_file")
  [ "${#as_server[@]}" -eq 0 ] || chown "$SERVER_USER:" "$password_file"
  (
    cd "$folder/server" &&
      "${as_server[@]}" "$BIN/initdb" -D "$new" -U soma --pwfile="$password_file" --auth=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 &&
      echo 'CREATE DATABASE soma;' | "${as_server[@]}" "$BIN/postgres" --single -D "$new" postgres
  ) >"$folder/initdb.log" 2>&1 || result=1
  rm -f "$password_file"
  [ "$result" -eq 0 ] || fail "PostgreSQL's data could not be made: see $folder/initdb.log"
  sync -f "$new"
  mv "$new" "$folder/server/data"
}

prepare() {
  local as_server socket="$folder/server/socket"
  mkdir -p "$folder/server"
  choose_user
  [ -s "$folder/server/data/PG_VERSION" ] || initialise
  # Of a server that was killed; one that its new parent has not buried yet would count as alive.
  if ! orphans; then rm -rf "$folder/server/data/postmaster.pid" "$socket"; fi
  mkdir -p "$socket"
  [ "${#as_server[@]}" -eq 0 ] || chown "$SERVER_USER:" "$socket"
  # A socket's path has 107 bytes at most; where the folder's is too long there is none.
  [ "${#socket}" -le 90 ] || socket=""
  cat >"$folder/server/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = ${ports[0]}
unix_socket_directories = '$socket'
unix_socket_permissions = 0700
password_encryption = scram-sha-256
max_connections = 1500
shared_buffers = 64MB
max_wal_size = 512MB
fsync = on
synchronous_commit = on
full_page_writes = on
timezone = 'UTC'
log_timezone = 'UTC'
CONF
  settings "SA01_DB_DSN=postgres://soma:$(<"$folder/password")@127.0.0.1:${ports[0]}/soma"
  command=("${as_server[@]}" "$BIN/postgres" -D "$folder/server/data")
}

# Each process that it starts works in its data, and may outlive the first one, which was killed alone, by a moment.
orphans() {
  local process
  for process in /proc/[0-9]*; do
    if [ "$process/cwd" -ef "$folder/server/data" ] && [ "$(cat "$process/comm" 2>/dev/null)" = postgres ]; then return; fi
  done
  return 1
}

ask() { PGPASSWORD=$(<"$folder/password") "$@" -X -h 127.0.0.1 -p "${ports[0]}" -U soma -d soma; }

probe() { ask timeout "$PROBE_SECONDS" "$BIN/psql" -qAtc 'SELECT 1' >/dev/null 2>&1; }

# psql: `client postgres -- -c 'SELECT 1'`.
client() { ask "$BIN/psql" "$@"; }
