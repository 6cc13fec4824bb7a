# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # scripts/engines, which sources this, uses what is set here, and sets what is used
# Temporal, built from source with Go. With --file it keeps what it knows in that file, else in memory: a stop forgets it.
# Its namespace is `default`. With --secure it speaks TLS, and asks for a certificate.

VERSION=v1.32.0
PORTS=9
PROGRAM="$ENGINES/bin/temporal-server-$VERSION"

installed() { [ -x "$PROGRAM" ]; }

install() {
  command -v go >/dev/null || fail "Temporal is built from source: install Go 1.21 or newer first (apt-get install golang-go, where it is new enough)"
  say "building Temporal $VERSION (about 8 minutes, once)"
  in_a_new_folder go_install "go.temporal.io/server/cmd/server@$VERSION" server "$PROGRAM" || fail "Temporal did not build"
}

store() { # database's name, mode
  cat <<YAML
      sql:
        pluginName: "sqlite"
        databaseName: "$1"
        connectAddr: "localhost"
        connectProtocol: "tcp"
        connectAttributes: {cache: "private", setup: "true", $2}
        maxConns: 1
        maxIdleConns: 1
        # A connection that ends takes a database in memory with it.
        maxConnLifetime: "240h"
YAML
}

# A client's options for curl.
shown() {
  [ ! -e "$folder/tls" ] || printf '%s\n' --cacert "$folder/tls/authority.pem" --cert "$folder/tls/client.pem" --key "$folder/tls/client.key"
}

# Where its HTTP interface is.
http() { if [ -e "$folder/tls" ]; then echo "https://127.0.0.1:${ports[1]}"; else echo "http://127.0.0.1:${ports[1]}"; fi; }

tls() {
  [ -n "$secure" ] || return 0
  cat <<YAML
  tls:
    frontend:
      server: {certFile: "$folder/tls/server.pem", keyFile: "$folder/tls/server.key", requireClientAuth: true, clientCaFiles: ["$folder/tls/authority.pem"]}
      client: {serverName: "127.0.0.1", rootCaFiles: ["$folder/tls/authority.pem"]}
    systemWorker:
      certFile: "$folder/tls/client.pem"
      keyFile: "$folder/tls/client.key"
      client: {serverName: "127.0.0.1", rootCaFiles: ["$folder/tls/authority.pem"]}
YAML
}

configuration() { # database's name, mode
  cat <<YAML
log: {stdout: true, level: "warn"}
persistence:
  defaultStore: store
  visibilityStore: visibility
  numHistoryShards: 1
  datastores:
    store:
$(store "$1" "$2")
    visibility:
$(store "$1" "$2")
global:
  membership: {maxJoinDuration: 30s, broadcastAddress: "127.0.0.1"}
$(tls)
services:
  frontend: {rpc: {grpcPort: ${ports[0]}, membershipPort: ${ports[2]}, bindOnLocalHost: true, httpPort: ${ports[1]}}}
  matching: {rpc: {grpcPort: ${ports[3]}, membershipPort: ${ports[4]}, bindOnLocalHost: true}}
  history: {rpc: {grpcPort: ${ports[5]}, membershipPort: ${ports[6]}, bindOnLocalHost: true}}
  worker: {rpc: {grpcPort: ${ports[7]}, membershipPort: ${ports[8]}, bindOnLocalHost: true}}
clusterMetadata:
  enableGlobalNamespace: false
  failoverVersionIncrement: 10
  masterClusterName: "active"
  currentClusterName: "active"
  clusterInformation:
    active: {enabled: true, initialFailoverVersion: 1, rpcName: "frontend", rpcAddress: "localhost:${ports[0]}", httpAddress: "localhost:${ports[1]}"}
dcRedirectionPolicy: {policy: "noop"}
YAML
}

prepare() {
  mkdir -p "$folder/config"
  if [ -n "$secure" ]; then certificates; else rm -rf "$folder/tls"; fi
  if [ -n "$file" ]; then
    configuration "$file" 'journal_mode: "wal", synchronous: "2"' >"$folder/config/development.yaml"
  else
    configuration "$name" 'mode: "memory"' >"$folder/config/development.yaml"
  fi
  if [ -n "$secure" ]; then
    settings "SA01_TEMPORAL_HOST=https://127.0.0.1:${ports[0]}" "SA01_TEMPORAL_TLS_CA=$folder/tls/authority.pem" \
      "SA01_TEMPORAL_TLS_CERT=$folder/tls/client.pem" "SA01_TEMPORAL_TLS_KEY=$folder/tls/client.key"
  else
    settings "SA01_TEMPORAL_HOST=127.0.0.1:${ports[0]}"
  fi
  command=("$PROGRAM" --root "$folder" --config config --env development --allow-no-auth start)
}

# Whether workflows can be started in the namespace `default`, which is made if there is none.
probe() {
  local api tls call
  api="$(http)/api/v1/namespaces"
  mapfile -t tls < <(shown)
  call=(curl -sS -m "$PROBE_SECONDS" -o /dev/null "${tls[@]}")
  "${call[@]}" -f "$api/default/workflows?pageSize=1" 2>/dev/null && return
  if "${call[@]}" -f "$api" 2>/dev/null && ! "${call[@]}" -f "$api/default" 2>/dev/null; then
    "${call[@]}" -X POST -H 'content-type: application/json' "$api" \
      -d '{"namespace":"default","workflowExecutionRetentionPeriod":"86400s"}' 2>/dev/null || true
  fi
  return 1
}

# curl of a path of its HTTP interface: `client temporal -- /api/v1/namespaces`.
client() {
  local tls
  mapfile -t tls < <(shown)
  curl -fsS "${tls[@]}" "$(http)$1" "${@:2}"
}
