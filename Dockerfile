# The program in an image of its own: docker build -t soma .
# It runs as a user without rights, keeps everything in /var/lib/soma, and takes its settings from the environment.
FROM rust:1.95-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      build-essential clang cmake git libclang-dev libprotobuf-dev libssl-dev mold nodejs npm pkg-config \
      protobuf-compiler python3 \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# Empty leaves llama.cpp out: no model runs in the process then.
ARG FEATURES=llama
ENV CARGO_TARGET_DIR=/target
RUN if [ -x scripts/web ]; then scripts/web build; fi \
 && cargo build --locked --release -p soma ${FEATURES:+--features "$FEATURES"}

FROM debian:bookworm-slim
# bubblewrap and python3 are for code that a model wrote; the health check is Python too.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bubblewrap ca-certificates libgomp1 libstdc++6 python3 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 soma \
 && useradd --uid 10001 --gid soma --no-create-home --home-dir /var/lib/soma --shell /usr/sbin/nologin soma \
 && install --directory --owner=soma --group=soma --mode=0700 /var/lib/soma /var/lib/soma/workspaces
COPY --from=build /target/release/soma /usr/local/bin/soma
COPY LICENSE /usr/share/doc/soma/LICENSE
ENV SA01_LISTEN=0.0.0.0:8080 \
    SA01_DATA_DIR=/var/lib/soma \
    SA01_DB_DSN=sqlite:///var/lib/soma/soma.db
WORKDIR /var/lib/soma
VOLUME ["/var/lib/soma"]
USER 10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
  CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health/ready', timeout=4)"]
ENTRYPOINT ["/usr/local/bin/soma"]
CMD ["serve"]
