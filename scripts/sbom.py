"""Reads what `cargo metadata` prints, and prints it as CycloneDX. Argument: seconds since 1970 of the source."""

import datetime
import json
import re
import sys
import uuid

metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
root = metadata["resolve"]["root"]


def checksums():
    """By name and version, from the lock."""
    blocks = open("Cargo.lock", encoding="utf-8").read().split("[[package]]")
    found = {}
    for block in blocks:
        fields = dict(re.findall(r'^(name|version|checksum) = "([^"]*)"', block, re.M))
        if "checksum" in fields:
            found[fields["name"], fields["version"]] = fields["checksum"]
    return found


def is_built_in(dependency):
    return any(kind["kind"] in (None, "build") for kind in dependency["dep_kinds"])


def depends_on(identity):
    return sorted(it["pkg"] for it in nodes[identity]["deps"] if is_built_in(it))


reached, waiting = set(), [root]
while waiting:
    identity = waiting.pop()
    if identity not in reached:
        reached.add(identity)
        waiting.extend(depends_on(identity))


def reference(identity):
    package = packages[identity]
    return f"pkg:cargo/{package['name']}@{package['version']}"


sums = checksums()


def component(identity):
    package = packages[identity]
    name, version = package["name"], package["version"]
    found = {
        "type": "application" if identity == root else "library",
        "bom-ref": reference(identity),
        "name": name,
        "version": version,
        "purl": reference(identity),
    }
    if package["license"]:
        # Crates of an older kind put a slash where SPDX says OR.
        found["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", package["license"])}]
    if (name, version) in sums:
        found["hashes"] = [{"alg": "SHA-256", "content": sums[name, version]}]
    if package["repository"]:
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


others = sorted(reached - {root}, key=reference)
contents = [component(identity) for identity in others]
moment = datetime.datetime.fromtimestamp(int(sys.argv[1]), datetime.timezone.utc)
bill = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    # Of the content, so that it is the same for the same source.
    "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(contents))}",
    "version": 1,
    "metadata": {"timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": component(root)},
    "components": contents,
    "dependencies": [
        {"ref": reference(identity), "dependsOn": sorted({reference(it) for it in depends_on(identity)})}
        for identity in [root, *others]
    ],
}
json.dump(bill, sys.stdout, indent=1)
print()
