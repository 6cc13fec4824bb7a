# The daily commands. `./quickstart` and `./test` need no `just`; these are shorter names.

export CARGO_TARGET_DIR := env("CARGO_TARGET_DIR", env("SOMA_CACHE", home_directory() / ".cache/soma") / "target")
# The embedded model takes minutes to compile and is left out here; test switches are in. The same flags everywhere,
# or cargo chooses other features for dependencies and compiles them once more.
daily := "--workspace --exclude soma-llama --features soma/faults"

# Lists the recipes.
default:
    @{{just_executable()}} --list --unsorted

# Builds everything but the embedded model.
build:
    cargo build {{daily}} --all-targets

# Runs every check, as continuous integration does.
test:
    ./test

# Format, lint and the tests that need no engine and no release build.
fast:
    ./test fast

# Builds, and serves on 127.0.0.1:8080.
run *arguments:
    ./quickstart {{arguments}}

# Kills the program at every failpoint and counts what really happened; then breaks promises, to see that it shows.
# `just chaos cluster` is the long runs on a cluster, `just chaos short` the one that `./test` has.
chaos what="here":
    cargo build {{daily}} --all-targets
    scripts/chaos {{what}}

# What takes too long for every change: all of chaos, some two and a half hours.
nightly: (chaos "here") (chaos "cluster")

# Measures a release build; results are printed as JSON.
bench *arguments:
    bench/run {{arguments}}

# Makes a tarball of a release build, with a bill of materials and checksums, in target/release-files.
release *arguments:
    scripts/release {{arguments}}

# Lints the Dockerfile and runs its steps in a chroot, without a container engine.
image-check:
    scripts/image check {{CARGO_TARGET_DIR}}/debug/soma

fmt:
    cargo fmt --all

lint:
    cargo clippy {{daily}} --all-targets -- -D warnings

# Runs the policy's own tests.
policy-test:
    cargo run --quiet {{daily}} --bin soma -- policy test

# Prints the OpenAPI document.
openapi:
    cargo run --quiet {{daily}} --bin soma -- openapi
