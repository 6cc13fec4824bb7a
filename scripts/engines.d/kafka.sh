# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # scripts/engines, which sources this, uses what is set here, and sets what is used
# Kafka, from Maven: one process that is broker and controller. What it has acknowledged is there after a kill, though
# not after the machine's: it leaves syncing to the system. A topic that nobody has made is an error. It asks nobody who
# he is; with --secure it speaks TLS, and asks for a certificate and a password, on all ports but one of its own.

VERSION=3.9.0
PORTS=2
# With --secure the last one is for `probe` and `client`.
[ -z "$secure" ] || PORTS=3
LIBRARIES="$ENGINES/kafka-$VERSION"

installed() { [ -e "$LIBRARIES/kafka_2.13-$VERSION.jar" ]; }

fetch() {
  # Its tools come with Kafka Connect, which nobody needs here, and a second way to log.
  cat >pom.xml <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>engines</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$VERSION</version></dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$VERSION</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion>
        <exclusion><groupId>org.slf4j</groupId><artifactId>slf4j-reload4j</artifactId></exclusion>
        <exclusion><groupId>ch.qos.reload4j</groupId><artifactId>reload4j</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
XML
  mvn -q -B -Dstyle.color=never dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=libraries && mv libraries "$LIBRARIES"
}

install() {
  need mvn maven
  need java default-jre-headless
  say "fetching Kafka $VERSION (46 MB, once)"
  in_a_new_folder fetch || fail "Kafka could not be fetched: check the network and Maven's settings"
}

listeners() {
  if [ -z "$secure" ]; then
    cat <<PROPERTIES
listeners=PLAINTEXT://127.0.0.1:${ports[0]},CONTROLLER://127.0.0.1:${ports[1]}
advertised.listeners=PLAINTEXT://127.0.0.1:${ports[0]}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
PROPERTIES
    return
  fi
  cat <<PROPERTIES
listeners=SASL_SSL://127.0.0.1:${ports[0]},CONTROLLER://127.0.0.1:${ports[1]},PLAINTEXT://127.0.0.1:${ports[2]}
advertised.listeners=SASL_SSL://127.0.0.1:${ports[0]},PLAINTEXT://127.0.0.1:${ports[2]}
listener.security.protocol.map=SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location=$folder/tls/shown.pem
ssl.truststore.type=PEM
ssl.truststore.location=$folder/tls/authority.pem
PROPERTIES
}

configuration() { # data's folder
  listeners
  cat <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${ports[1]}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$1
auto.create.topics.enable=false
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
# One that was killed is let in again when its former session is over; nine seconds, if nothing is said.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
PROPERTIES
}

prepare() {
  local id new="$folder/data.new" user=()
  need java default-jre-headless
  JAVA=(java -Xmx512m -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError -Dorg.slf4j.simpleLogger.defaultLogLevel=warn
    -Dorg.slf4j.simpleLogger.showDateTime=true -Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd\'T\'HH:mm:ss.SSS -cp "$LIBRARIES/*")
  if [ -n "$secure" ]; then
    certificates
    cat "$folder/tls/server.key" "$folder/tls/server.pem" | keep_secret "$folder/tls/shown.pem"
    [ -s "$folder/password" ] || draw_password | keep_secret "$folder/password"
    user=(--add-scram "SCRAM-SHA-512=[name=soma,password=$(<"$folder/password")]")
  fi
  if [ ! -e "$folder/data/meta.properties" ]; then
    rm -rf "$new" "$folder/data"
    configuration "$new" >"$folder/format.properties"
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' '__' | tr -d =)
    "${JAVA[@]}" kafka.tools.StorageTool format -t "$id" -c "$folder/format.properties" "${user[@]}" >"$folder/format.log" 2>&1 ||
      fail "Kafka's data could not be made: see $folder/format.log"
    mv "$new" "$folder/data"
  fi
  configuration "$folder/data" >"$folder/server.properties"
  if [ -n "$secure" ]; then
    settings "SA01_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:${ports[0]}" SA01_KAFKA_SECURITY_PROTOCOL=sasl_ssl \
      "SA01_KAFKA_TLS_CA=$folder/tls/authority.pem" "SA01_KAFKA_TLS_CERT=$folder/tls/client.pem" \
      "SA01_KAFKA_TLS_KEY=$folder/tls/client.key" SA01_KAFKA_SASL_USERNAME=soma \
      "SA01_KAFKA_SASL_PASSWORD=$(<"$folder/password")"
  else
    settings "SA01_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:${ports[0]}"
  fi
  command=("${JAVA[@]}" kafka.Kafka "$folder/server.properties")
}

# Asks for the brokers that take requests, by Kafka's protocol (Metadata, version 1, no topics), which costs no virtual
# machine: it is ready when there is one.
probe() {
  # shellcheck disable=SC2016 # for the inner shell
  [ "$(timeout "$PROBE_SECONDS" bash -c '
    exec 3<>"/dev/tcp/127.0.0.1/$1" || exit
    printf "\0\0\0\016\0\003\0\001\0\0\0\001\377\377\0\0\0\0" >&3
    head -c 12 <&3 | od -An -tx1 -j 8 | tr -d " \n"' - "${ports[2]:-${ports[0]}}" 2>/dev/null)" = 00000001 ]
}

# A class of its tools, told where the engine is: `client kafka -- org.apache.kafka.tools.TopicCommand --list`.
client() { java -Xmx128m -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$LIBRARIES/*" "$1" --bootstrap-server "127.0.0.1:${ports[2]:-${ports[0]}}" "${@:2}"; }
