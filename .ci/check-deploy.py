"""What can be checked of docker-compose.yml and deploy/ without a container engine."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

import yaml

faults = []


def expect(is_good, fault):
    if not is_good:
        faults.append(fault)


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


# As compose sees it when nothing is set but what scripts/compose-secrets makes.
made = tempfile.mkdtemp()
subprocess.run(["scripts/compose-secrets", made], check=True, stdout=subprocess.DEVNULL)
env = dict(line.split("=", 1) for line in read(f"{made}/.env").splitlines())
text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", read("docker-compose.yml"))
text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: env[match[1]], text)
compose = yaml.safe_load(text)
services = compose["services"]
settings = tomllib.loads(read("src/config.default.toml"))
cargo = tomllib.loads(read("Cargo.toml"))

for name, service in services.items():
    expect("image" in service, f"{name}: no image")
    for port in service.get("ports", []):
        expect(port.startswith("127.0.0.1:"), f"{name}: port {port} is open to the network")
    for other, how in service.get("depends_on", {}).items():
        expect(other in services, f"{name}: depends on {other}, which is not there")
        healthy = how["condition"] != "service_healthy" or "healthcheck" in services[other]
        expect(healthy, f"{name}: waits for the health of {other}, which has no healthcheck")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        source = source.replace("./.secrets/", f"{made}/.secrets/")
        there = os.path.exists(source) if source[0] in "./" else source in compose["volumes"]
        expect(there, f"{name}: volume {source} is not there")
    if "build" in service:
        dockerfile = service["build"]["dockerfile"]
        expect(os.path.exists(dockerfile), f"{name}: {dockerfile} is not there")

patience = seconds(settings["shutdown"]["patience"])
grace = seconds(services["order-relay"]["stop_grace_period"])
expect(grace > patience, f"stop_grace_period {grace}s is not above shutdown.patience {patience}s")
unit = read("deploy/order-relay.service")
stop = seconds(re.search(r"^TimeoutStopSec=(.*)$", unit, re.M)[1])
expect(re.search(r"^LimitNOFILE=\d{5,}$", unit, re.M), "order-relay.service: too few files may be open")
expect(stop > patience, f"TimeoutStopSec {stop}s is not above shutdown.patience {patience}s")

dockerfile = read("deploy/Dockerfile")
rust = cargo["package"]["rust-version"]
expect(f"FROM rust:{rust}-" in dockerfile, f"Dockerfile: not built with Rust {rust}")
expect(re.search(r"^USER [1-9]\d*", dockerfile, re.M), "Dockerfile: no user other than root, by number")

# The program itself knows best which settings there are.
built = os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "debug", "order-relay")
relay = os.environ.get("ORDER_RELAY", built)
clean = {key: value for key, value in os.environ.items() if not key.startswith("ORDER_RELAY_")}
for what, extra in [
    ("docker-compose.yml", services["order-relay"]["environment"]),
    ("order-relay.example.toml", {"ORDER_RELAY_CONFIG": "deploy/order-relay.example.toml"}),
]:
    command = [os.path.abspath(relay), "config", "show"]
    shown = subprocess.run(command, env=clean | extra, capture_output=True, text=True)
    expect(shown.returncode == 0, f"{what}: {shown.stderr.strip()}")

definitions = json.loads(read("deploy/rabbitmq/definitions.json"))
for user in definitions["users"]:
    expect("password_hash" not in user, f"definitions.json: a password of {user['name']} is shipped")
passwords = {
    "admin": env["RABBITMQ_ADMIN_PASSWORD"],
    "order_relay": re.fullmatch(r"amqp://order_relay:([^@]{32})@rabbitmq:5672/orders", env["AMQP_URL"])[1],
}
for user in json.loads(read(f"{made}/.secrets/definitions.json"))["users"]:
    stored = base64.b64decode(user["password_hash"])
    again = stored[:4] + hashlib.sha256(stored[:4] + passwords[user["name"]].encode()).digest()
    expect(stored == again, f"compose-secrets: the hash of {user['name']} is not that of its password")
expect(os.stat(f"{made}/.env").st_mode & 0o077 == 0, "compose-secrets: others may read .env")
twice = subprocess.run(["scripts/compose-secrets", made], capture_output=True)
expect(twice.returncode != 0, "compose-secrets: replaces passwords that are in use")
shutil.rmtree(made)
queues = ["submit", "failed", "notify", "dead", "unrouted", "retry.30000"]
for queue in queues:
    fitting = [p for p in definitions["policies"] if re.search(p["pattern"], f"orders.{queue}")]
    expect(len(fitting) == 1, f"definitions.json: {len(fitting)} policies for orders.{queue}")

# Kubernetes. The schemas of its own kinds come with kubernetes-validate, where that is installed.
folder = "deploy/kubernetes"
kustomization = yaml.safe_load(read(f"{folder}/kustomization.yaml"))
listed = set(kustomization["resources"])
expect(listed == set(os.listdir(folder)) - {"kustomization.yaml"}, f"kustomization.yaml lists {sorted(listed)}")
version = kustomization["images"][0]["newTag"]
expect(version == cargo["package"]["version"], f"kustomization.yaml: image {version}")
given = dict(line.split("=", 1) for line in kustomization["configMapGenerator"][0]["literals"])
try:
    import kubernetes_validate
except ImportError:
    kubernetes_validate = None
for file in sorted(listed):
    for manifest in yaml.safe_load_all(read(f"{folder}/{file}")):
        what = f"{file}: {manifest['kind']} {manifest['metadata']['name']}"
        if kubernetes_validate and "monitoring.coreos.com" not in manifest["apiVersion"]:
            try:
                kubernetes_validate.validate(manifest, "1.31", strict=True)
            except kubernetes_validate.ValidationError as error:
                expect(False, f"{what}: {error}")
        if manifest["kind"] != "Deployment":
            continue
        pod = manifest["spec"]["template"]["spec"]
        grace = pod["terminationGracePeriodSeconds"]
        expect(grace > patience, f"{what}: grace period {grace}s is not above shutdown.patience")
        (container,) = pod["containers"]
        env = {variable["name"]: variable["value"] for variable in container["env"]}
        # The files exist only there; what they are for is a setting all the same.
        env = {name.removesuffix("_FILE"): "" if name.endswith("_FILE") else value for name, value in env.items()}
        command = [os.path.abspath(relay), "config", "show"]
        shown = subprocess.run(command, env=clean | given | env, capture_output=True, text=True)
        expect(shown.returncode == 0, f"{what}: {shown.stderr.strip()}")

for fault in faults:
    print(fault, file=sys.stderr)
print(f"{len(services)} services checked, {len(faults)} faults")
sys.exit(bool(faults))
