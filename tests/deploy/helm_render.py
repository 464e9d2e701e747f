"""Renders a chart with Helm's own engine, or lints it: helm_render.py render|lint CHART VALUES, where VALUES is JSON.

Prints the manifests as one YAML stream. Exits with 1 and says why where the chart refuses, or the linter has something to say.
"""

import json
import sys

import helm_python as helm

action, path, values = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
try:
    if action == "lint":
        report = helm.lint(path, values, strict=True, kube_version="v1.30.0")
        # An icon is not asked for.
        said = [m for m in report["messages"] if "icon is recommended" not in json.dumps(m)]
        if said or report["errors"]:
            sys.exit(json.dumps(report))
    else:
        with helm.Chart.load(path) as chart:
            chart.validate_schema(values)
            for name, text in sorted(chart.render(values, name="stan", namespace="shop").items()):
                if name.endswith(".yaml") and text.strip():
                    print(f"---\n# {name}\n{text.strip()}")
except helm.HelmError as error:
    sys.exit(str(error))
