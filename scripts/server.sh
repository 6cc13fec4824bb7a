# shellcheck shell=bash
# shellcheck disable=SC2034 # those who source this use what is set here
# A real server on loopback with a scripted model behind it, of the debug build, for programs that test it from outside.
# To be sourced after `lib.sh`, by bash with `set -euo pipefail`. Everything ends with the shell.

READY_SECONDS=60

server_folder=
server_pids=()
stop_server() {
  local pid
  for pid in "${server_pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ -n "$server_folder" ]; then rm -rf "$server_folder"; fi
}

# Waits for the first line of a file, and prints it.
first_line() {
  local deadline=$((SECONDS + READY_SECONDS))
  until [ -s "$1" ]; do
    [ "$SECONDS" -lt "$deadline" ] || fail "not within $READY_SECONDS s: $1"
    sleep 0.05
  done
  head -n 1 "$1"
}

# Sets SERVER_URL, SERVER_KEY (an administrator's), SERVER_LOG and MODEL_STATS.
start_server() {
  local soma=$CARGO_TARGET_DIR/debug/soma name value engine urls line
  server_folder=$(mktemp -d)
  trap stop_server EXIT
  mkfifo "$server_folder/open"
  "$CARGO_TARGET_DIR/debug/soma-testing-servers" <"$server_folder/open" >"$server_folder/servers" &
  server_pids+=($!)
  # The servers end when this is closed.
  exec 3>"$server_folder/open"
  urls=$(first_line "$server_folder/servers")
  url_of() { python3 -c 'import json, sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$urls" "$1"; }

  unset SECRET_KEY "${!SA01_@}"
  while IFS='=' read -r name value; do export "$name=$value"; done < <("$soma" keygen)
  mkdir "$server_folder/data"
  export SA01_DATA_DIR=$server_folder/data SA01_MODEL_NAME=scripted SA01_LOG=warn
  # One client asks for what many would.
  export SA01_RATE_LIMIT_KEY=0 SA01_RATE_LIMIT_USER=0 SA01_RATE_LIMIT_TENANT=0 SA01_RATE_LIMIT_ADDRESS=0
  export SA01_DB_DSN=sqlite://$SA01_DATA_DIR/soma.db
  SA01_MODEL_URL=$(url_of model)
  export SA01_MODEL_URL
  for engine in SA01_REDIS_URL SA01_KAFKA_BOOTSTRAP_SERVERS SA01_TEMPORAL_HOST SA01_OPA_URL; do
    export "$engine=embedded:"
  done
  "$soma" migrate >&2
  "$soma" admin create --email tester@example.org >&2
  SERVER_KEY=$("$soma" apikey create --email tester@example.org)
  SERVER_LOG=$server_folder/log
  "$soma" serve --listen 127.0.0.1:0 >"$server_folder/server" 2>"$SERVER_LOG" &
  server_pids+=($!)
  line=$(first_line "$server_folder/server")
  SERVER_URL=${line#listening on }
  MODEL_STATS=$(url_of model_stats)
}
