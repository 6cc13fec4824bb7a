# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # scripts/engines, which sources this, uses what is set here, and sets what is used
# Keycloak, from Maven. It keeps nothing, and its administrator's password is drawn anew at each start.

VERSION=26.4.0
PORTS=2
# Its first start puts itself together, in one more virtual machine.
READY_SECONDS=180
DISTRIBUTION="$ENGINES/keycloak-$VERSION"

installed() { [ -x "$DISTRIBUTION/bin/kc.sh" ]; }

fetch() {
  mvn -q -B -Dstyle.color=never dependency:copy -DoutputDirectory=. -Dartifact="org.keycloak:keycloak-quarkus-dist:$VERSION:zip" &&
    unzip -q ./*.zip && mv "keycloak-$VERSION" "$DISTRIBUTION"
}

install() {
  need mvn maven
  need unzip unzip
  need java default-jre-headless
  say "fetching Keycloak $VERSION (160 MB, once)"
  in_a_new_folder fetch || fail "Keycloak could not be fetched: check the network and Maven's settings"
}

prepare() {
  local password
  # It writes beside its own files, so each has its own.
  [ -x "$folder/keycloak/bin/kc.sh" ] || cp -a --reflink=auto "$DISTRIBUTION" "$folder/keycloak"
  password=$(draw_password)
  settings "SA01_KEYCLOAK_URL=http://127.0.0.1:${ports[0]}" KEYCLOAK_ADMIN=admin "KEYCLOAK_ADMIN_PASSWORD=$password"
  export KC_BOOTSTRAP_ADMIN_USERNAME=admin KC_BOOTSTRAP_ADMIN_PASSWORD="$password"
  command=(bash "$folder/keycloak/bin/kc.sh" start-dev --db dev-mem
    --http-host 127.0.0.1 --http-port "${ports[0]}" --http-management-port "${ports[1]}")
}

probe() { client /realms/master/.well-known/openid-configuration -m "$PROBE_SECONDS" -o /dev/null 2>/dev/null; }

# curl of a path: `client keycloak -- /realms/master`.
client() { curl -fsS "http://127.0.0.1:${ports[0]}$1" "${@:2}"; }
