# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # scripts/engines, which sources this, uses what is set here, and sets what is used
# OPA, built from source with Go, with a copy of a policy: of the bundle that `--file` names, which `soma policy bundle`
# wrote, or else of this checkout's policy, less its tests. The latter has no revision, so `soma` does not take its
# decisions. It keeps nothing. `up` of one that is up starts it again if the policy has changed since.

VERSION=v1.22.2
PORTS=1
PROGRAM="$ENGINES/bin/opa-$VERSION"
POLICY=$(cd "${file:-$HERE/../policy}" && pwd) || fail "$file is no folder"

installed() { [ -x "$PROGRAM" ]; }

install() {
  command -v go >/dev/null || fail "OPA is built from source: install Go 1.21 or newer first (apt-get install golang-go, where it is new enough)"
  say "building OPA $VERSION (a minute or two, once)"
  in_a_new_folder go_install "github.com/open-policy-agent/opa@$VERSION" opa "$PROGRAM" || fail "OPA did not build"
}

stale() {
  if diff -rq -x '*_test.rego' "$POLICY" "$folder/policy" >/dev/null 2>&1; then return 1; fi
  # Whoever uses that one expects its policy.
  [ "$(cat "$folder/origin" 2>/dev/null)" = "$POLICY" ] ||
    fail "$name is up with another policy, $(cat "$folder/origin" 2>/dev/null): take it down, or use another --name"
  say "$name is started again: the policy has changed"
}

prepare() {
  rm -rf "$folder/policy"
  cp -R "$POLICY" "$folder/policy"
  find "$folder/policy" -name '*_test.rego' -delete
  echo "$POLICY" >"$folder/origin"
  settings "SA01_OPA_URL=http://127.0.0.1:${ports[0]}"
  command=("$PROGRAM" run --server --addr "127.0.0.1:${ports[0]}" --disable-telemetry --log-level error --shutdown-grace-period 1 --bundle "$folder/policy")
}

probe() { client /health -m "$PROBE_SECONDS" -o /dev/null 2>/dev/null; }

# curl of a path, `client opa -- /v1/data/soma/policy/decision -d '{"input": {}}'`, or the program itself, `client opa --
# test policy`.
client() {
  case "${1:-}" in
    /*) curl -fsS "http://127.0.0.1:${ports[0]}$1" "${@:2}" ;;
    *) "$PROGRAM" "$@" ;;
  esac
}
