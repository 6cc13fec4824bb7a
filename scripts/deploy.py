"""The checks of `scripts/deploy check`: each is a line `ok` or `FAIL`, and any FAIL is the exit status."""

import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

SOMA = sys.argv[1]
CHART = "deploy/helm/soma"
COMPOSE = Path("deploy/compose/compose.yaml")
SECCOMP = Path("deploy/seccomp/soma-tools.json")
# What the chart takes from Vault or a Secret, and never from a ConfigMap.
FROM_SECRET = ["SECRET_KEY", "SA01_CRYPTO_FERNET_KEY", "SA01_DB_DSN", "SA01_REDIS_URL"]
GOOD = {
    "image": {"repository": "registry.example.org/soma"},
    "settings": {
        "SA01_KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
        "SA01_TEMPORAL_HOST": "temporal:7233",
        "SA01_OPA_URL": "http://opa:8181",
        "SA01_MODEL_URL": "http://model:8000/v1",
        "SA01_PUBLIC_URL": "https://soma.example.org",
    },
    "secrets": {"existingSecret": "soma", "modelKeys": ["SA01_MODEL_API_KEY"]},
}
VAULT = {"secrets": {"existingSecret": "", "modelKeys": [], "vault": {"address": "https://vault:8200"}}}
EVERYTHING = {
    "gateway": {
        "autoscaling": {"enabled": True},
        "ingress": {"enabled": True, "host": "soma.example.org", "tlsSecret": "soma-tls", "className": "nginx"},
    },
    "workers": {"tools": {"autoscaling": {"enabled": True}}},
    "podMonitor": {"enabled": True, "tokenSecret": "soma-metrics", "alerts": True},
    "networkPolicy": {
        "engines": [{"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"port": 5432}]}],
        "model": [{"to": [{"ipBlock": {"cidr": "10.2.0.1/32"}}]}],
        "monitoringFrom": [{"namespaceSelector": {}}],
        "gatewayFrom": [{"namespaceSelector": {}}],
    },
}
VARIANTS = {
    "a Secret": {},
    "Vault": VAULT,
    "engines that ask who one is": {
        "settings": {
            "SA01_KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
            "SA01_KAFKA_SASL_USERNAME": "soma",
            "SA01_KAFKA_TLS_CA": "/etc/soma/engines/kafka-ca.pem",
            "SA01_TEMPORAL_HOST": "https://temporal:7233",
            "SA01_TEMPORAL_TLS_CA": "/etc/soma/engines/temporal-ca.pem",
        },
        "secrets": {"engineKeys": ["SA01_KAFKA_SASL_PASSWORD", "SA01_TEMPORAL_API_KEY"]},
        "engineCertificates": {"existingSecret": "soma-engines"},
    },
    "gVisor": {"sandbox": {"mode": "runtimeClass"}},
    "no sandbox": {"sandbox": {"mode": "off"}},
    "everything": EVERYTHING,
}

failed = 0


def check(what, problems):
    global failed
    problems = [str(problem) for problem in problems]
    failed += bool(problems)
    print(f"FAIL  {what}: {'; '.join(problems)}" if problems else f"ok    {what}")


def merged(base, over):
    both = dict(base)
    for key, value in over.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


def helm(command, values):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        arguments = ["helm", *command, CHART, "-f", file.name]
        if command[0] == "template":
            arguments += ["--kube-version", "1.33.0"]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=60)


def rendered(values):
    ran = helm(["template", "soma"], values)
    if ran.returncode:
        raise SystemExit(f"FAIL  the chart renders: {ran.stderr}")
    return [part for part in yaml.safe_load_all(ran.stdout) if part]


def registry():
    """Names that are required, and those of secrets, as the program itself says."""
    said = subprocess.run([SOMA, "registry"], capture_output=True, text=True, cwd=tempfile.gettempdir(), check=True)
    rows = [line.split(None, 3) for line in said.stdout.splitlines()[1:]]
    required = [name for name, _, required, _ in rows if required == "required"]
    return required, [name for name, kind, _, _ in rows if kind == "key"]


# Secrets that a Secret has only where engines ask who one is.
FOR_ENGINES = {"SA01_KAFKA_SASL_PASSWORD": "pass", "SA01_TEMPORAL_API_KEY": "key"}


def secrets():
    keys = subprocess.run([SOMA, "keygen"], capture_output=True, text=True, check=True).stdout
    known = dict(line.split("=", 1) for line in keys.splitlines())
    return known | {
        "SA01_DB_DSN": "postgresql://soma:pass@postgres/soma?sslmode=disable",
        "SA01_REDIS_URL": "redis://redis:6379",
        "SA01_MODEL_API_KEY": "key",
    }


def faults(environment):
    """What the program says of a configuration of this environment alone."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"PATH": os.environ["PATH"]} | environment
        ran = subprocess.run([SOMA, "check"], capture_output=True, text=True, env=environment, cwd=folder, timeout=60)
    lines = [line for line in ran.stdout.splitlines() if "one configuration, without faults" in line]
    return [] if lines and lines[0].startswith("ok") else lines or [ran.stderr]


def pods(parts):
    for part in parts:
        if part["kind"] == "Deployment":
            yield part["metadata"]["name"], part["spec"]["template"]["spec"]


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def environment_of(container, parts, known):
    found = {}
    for source in container.get("envFrom", []):
        name = source["configMapRef"]["name"]
        [data] = [part["data"] for part in parts if part["kind"] == "ConfigMap" and part["metadata"]["name"] == name]
        found |= data
    for one in container.get("env", []):
        reference = one.get("valueFrom", {}).get("secretKeyRef")
        found[one["name"]] = known[reference["key"]] if reference else one["value"]
    return found


def chart(required):
    known = secrets()
    for variant, over in VARIANTS.items():
        values = merged(GOOD, over)
        linted = helm(["lint", "--strict"], values)
        check(f"helm lint --strict, {variant}", [] if linted.returncode == 0 else [linted.stdout + linted.stderr])
        parts = rendered(values)
        problems = []
        for name, spec in pods(parts):
            for container in containers(spec):
                environment = environment_of(container, parts, known | FOR_ENGINES)
                if variant == "Vault":
                    missing = [key for key in required if key not in FROM_SECRET and not environment.get(key)]
                    missing += [key for key in ["VAULT_ADDR", "VAULT_KUBERNETES_ROLE"] if not environment.get(key)]
                    twice = [key for key in FROM_SECRET if environment.get(key)]
                    problems += [f"{name}: {key} is missing" for key in missing]
                    problems += [f"{name}: {key} is in Vault and here" for key in twice]
                    # What Vault will have.
                    environment = environment | known
                    for key in list(environment):
                        if key.startswith("VAULT_"):
                            del environment[key]
                problems += [f"{name}: {key} is missing" for key in required if not environment.get(key)]
                problems += [f"{name}: {fault}" for fault in faults(environment)]
        check(f"every container has each of the {len(required)} required settings, {variant}", problems)
        check(f"no secret in a ConfigMap, {variant}", [
            f"{part['metadata']['name']}: {key}"
            for part in parts if part["kind"] == "ConfigMap" for key in part["data"] if key in FROM_SECRET
        ])
        check(f"pods are confined and bounded, {variant}", confined(parts))


def confined(parts):
    for name, spec in pods(parts):
        pod = spec["securityContext"]
        if not pod.get("runAsNonRoot") or pod.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: the pod's securityContext"
        for container in containers(spec):
            own = container["securityContext"]
            if not own.get("readOnlyRootFilesystem") or own.get("capabilities", {}).get("drop") != ["ALL"]:
                yield f"{name}: securityContext"
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{name}: privileges"
            if "memory" not in container["resources"]["limits"]:
                yield f"{name}: no limit of memory"
        for container in spec["containers"]:
            if not {"livenessProbe", "readinessProbe"} <= set(container):
                yield f"{name}: probes"
        given = {one["name"] for container in containers(spec) for one in container.get("env", [])}
        if name.endswith("-tools") and "SA01_MODEL_API_KEY" in given:
            yield f"{name}: who runs a model's code is given the model's key"
        files = [value for one in parts if one["kind"] == "ConfigMap" for value in one["data"].values()]
        for container in containers(spec):
            mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
            if any(file.startswith("/etc/soma/engines/") for file in files) and "/etc/soma/engines" not in mounted:
                yield f"{name}: the certificates of its engines are not there"


def refusals(secret):
    """A chart without what it must be told is refused, and the message names it."""
    without = {f"settings.{name}": {"settings": {name: ""}} for name in GOOD["settings"]}
    without["image.repository"] = {"image": {"repository": ""}}
    without["secrets.existingSecret or secrets.vault.address"] = {"secrets": {"existingSecret": ""}}
    problems = []
    for name, over in without.items():
        ran = helm(["template", "soma"], merged(GOOD, over))
        if ran.returncode == 0 or name not in ran.stderr:
            problems.append(f"{name}: {ran.stderr or 'accepted'}")
    for name in sorted({*FROM_SECRET, *secret}):
        ran = helm(["template", "soma"], merged(GOOD, {"settings": {name: "x"}}))
        if ran.returncode == 0 or name not in ran.stderr:
            problems.append(f"{name} in a ConfigMap: {ran.stderr or 'accepted'}")
    both = helm(["template", "soma"], merged(GOOD, {"secrets": {"vault": {"address": "https://vault"}}}))
    if both.returncode == 0:
        problems.append("a Secret and Vault at once: accepted")
    check("a chart without what it needs is refused by name", problems)


VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)(?:(:\?|:-)([^}]*))?\}")


def compose(required):
    text = COMPOSE.read_text()
    needed = sorted({name for name, kind, _ in VARIABLE.findall(text) if kind == ":?"})
    documented = Path("deploy/compose/env.example").read_text()
    check("the compose file's variables are in env.example, without a value", [
        name for name in needed if not re.search(rf"^{name}=$", documented, re.M)
    ])
    optional = [(name, default) for name, kind, default in VARIABLE.findall(text) if kind != ":?"]
    check("no secret of the compose file has a default", [
        name for name, default in optional if default and re.search("KEY|PASSWORD|SECRET", name)
    ])
    given = {name: "value" for name in needed} | secrets() | {"SA01_MODEL_URL": "http://model:8000/v1"}

    def filled(match):
        name, _, default = match.groups()
        return given.get(name, default or "")

    whole = VARIABLE.sub(filled, text)
    with tempfile.TemporaryDirectory() as folder:
        # The reader itself takes no variables from the environment.
        (Path(folder) / "compose.yaml").write_text(whole)
        read = subprocess.run(["compose-spec", "compose.yaml"], capture_output=True, text=True, cwd=folder, timeout=60)
    check("the compose file is one by the compose specification", [read.stderr] if read.returncode else [])
    services = yaml.safe_load(whole)["services"]
    problems = []
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            if other not in services:
                problems.append(f"{name}: there is no service {other}")
        if "soma" not in str(service["image"]).split("/")[-1]:
            if ":" not in service["image"]:
                problems.append(f"{name}: an image without a version")
            continue
        environment = {key: str(value) for key, value in service["environment"].items()}
        problems += [f"{name}: {key} is missing" for key in required if not environment.get(key)]
        problems += [f"{name}: {fault}" for fault in faults(environment)]
        if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
            problems.append(f"{name}: is not confined")
        if name == "worker-tools" and "SA01_MODEL_API_KEY" in environment:
            problems.append(f"{name}: who runs a model's code is given the model's key")
    check(f"every service of the compose file has each of the {len(required)} required settings", problems)
    kinds = {service["command"][1] for service in services.values() if service.get("command", [""])[0] == "worker"}
    check("the compose file has each kind of worker", {"conversation", "tools", "events"} - kinds)


def seccomp():
    """The profile's names are known, and under it a user without rights can still make a sandbox."""
    profile = json.loads(SECCOMP.read_text())
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    [rule] = profile["syscalls"]
    # Numbers below -1 are calls of another architecture.
    check("the seccomp profile's system calls are known", [
        name for name in rule["names"] if library.seccomp_syscall_resolve_name(name.encode()) == -1
    ])

    def confine():
        allow, errno = 0x7FFF0000, 0x00050000 | rule["errnoRet"]
        context = ctypes.c_void_p(library.seccomp_init(allow))
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number >= 0:
                library.seccomp_rule_add(context, errno, number, 0)
        # The C library's prctl: no new privileges, so that a filter may be loaded.
        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
        if library.seccomp_load(context) != 0:
            os._exit(111)

    known = secrets()
    environment = {"PATH": "/usr/bin:/bin", **known, **GOOD["settings"], "SA01_TEMPORAL_HOST": "embedded:"}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = Path(folder) / "soma"
        # A user without rights may not reach where it was built.
        program.write_bytes(Path(SOMA).read_bytes())
        program.chmod(0o755)
        command = [str(program), "check", "--deploy"]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--bounding-set=-all", *command]
        ran = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=folder, timeout=120, preexec_fn=confine
        )
    lines = [line for line in ran.stdout.splitlines() if "code that a model wrote can be run" in line]
    check("a sandbox can be made under the seccomp profile, without rights", [
        *(line for line in lines if not line.startswith("ok")), *([] if lines else [ran.stderr or ran.stdout])
    ])


METRIC = re.compile(r"\b([a-z][a-z0-9_]*_(?:total|seconds|active|connections)|gateway_connections)(?:_bucket|_sum|_count)?\b")


def metrics():
    """Dashboards and alerts name what the program's sources name."""
    sources = "".join(path.read_text() for path in Path("crates").glob("*/src/**/*.rs"))
    known = set(re.findall(r'(?:counter|gauge|histogram)!\(\s*"([a-z_]+)"', sources))
    rules = yaml.safe_load(Path(CHART, "files/alerts.yaml").read_text())["groups"][0]["rules"]
    panels = json.loads(Path("deploy/grafana/soma.json").read_text())["panels"]
    expressions = [rule["expr"] for rule in rules] + [one["expr"] for panel in panels for one in panel["targets"]]
    used = {name.removesuffix("_bucket") for text in expressions for name in METRIC.findall(text)}
    check(f"the {len(used)} metrics of dashboards and alerts are the program's", sorted(used - known))
    check("each alert says what to do", [
        rule["alert"] for rule in rules if not {"summary", "action"} <= set(rule["annotations"])
    ])
    check("every expression names a metric", [text for text in expressions if not METRIC.search(text)])


required, secret = registry()
assert len(required) > 5 and len(secret) > 5, (required, secret)
chart(required)
refusals(secret)
compose(required)
seccomp()
metrics()
sys.exit(1 if failed else 0)
