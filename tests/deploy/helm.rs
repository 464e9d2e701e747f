//! `deploy/helm/stanby`: Helm's own engine and linter take the chart, Kubernetes' schemas take what it makes, and the program
//! starts with it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::io::Write as _;

use yaml_rust2::{Yaml, YamlLoader};

use crate::program::{assert_serves, root};
use crate::tools::{output, run};
use crate::yaml::strings;

const CHART: &str = "deploy/helm/stanby";

/// Values as people have them.
const SHAPES: [&str; 5] = [
    r#"{"database": {"existingSecret": "stanby"}}"#,
    // As nats-streaming-server was: NATS inside, a volume, one replica.
    r#"{"database": {"existingSecret": "stanby"}, "nats": {"url": ""}, "replicas": 1,
        "fileStore": {"existingClaim": "stan-data-stan-0", "directory": "stan/store"},
        "podSecurityContext": {"runAsUser": 0, "runAsNonRoot": false}}"#,
    r#"{"database": {"url": "postgres://stanby@db.example/stan", "schema": "shop", "caSecret": "db-ca"}, "clusterID": "shop",
        "nats": {"existingSecret": "nats", "keys": {"credentials": "stan.creds"}},
        "encryption": {"existingSecret": "stanby", "key": "payloads"},
        "limits": {"maxMessages": 10000000, "maxBytes": "1GB", "maxAge": "72h", "maxChannels": 0}}"#,
    r#"{"database": {"existingSecret": "stanby"}, "nats": {"existingSecret": "nats", "keys": {"user": "u", "password": "p"}},
        "extraArgs": ["--hb-interval", "10s"], "extraEnv": [{"name": "STANBY_HTTP_HOST", "value": "0.0.0.0"}],
        "tolerations": [{"operator": "Exists"}], "nodeSelector": {"disk": "ssd"}, "podLabels": {"team": "a"}}"#,
    r#"{"database": {"existingSecret": "stanby"}, "config": "cluster-id = \"shop\"\n", "podDisruptionBudget": false,
        "replicas": 3}"#,
];

fn python(action: &str, values: &str) -> Option<Result<String, String>> {
    let python = root().join("target/deploy-python/bin/python");
    let script = "tests/deploy/helm_render.py";
    let output = output(python, &[script, action, CHART, values])?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Some(if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    })
}

fn documents(rendered: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(rendered).unwrap_or_else(|error| panic!("{rendered}: {error}"))
}

fn of_kind<'a>(documents: &'a [Yaml], kind: &str) -> Option<&'a Yaml> {
    documents
        .iter()
        .find(|it| it["kind"].as_str() == Some(kind))
}

/// What the pod's container gets, with something in the place of each secret.
fn environment(container: &Yaml) -> BTreeMap<String, String> {
    let entries = container["env"].as_vec().unwrap().iter().map(|entry| {
        let name = entry["name"].as_str().unwrap().to_owned();
        let value = match (entry["value"].as_str(), &name[..]) {
            (Some(value), _) => value,
            (None, "STANBY_DATABASE_URL") => {
                "postgres://stanby@db.example/stan?sslmode=verify-full"
            }
            (None, _) => "secret-of-more-than-sixteen-characters",
        };
        assert!(
            entry["value"].as_str().is_some() || !entry["valueFrom"]["secretKeyRef"].is_badvalue(),
            "{name}"
        );
        (name, value.to_owned())
    });
    entries.collect()
}

#[test]
fn helm_lints_the_chart_with_all_kinds_of_values() {
    for values in SHAPES {
        if let Some(linted) = python("lint", values) {
            assert_eq!(linted.map(drop), Ok(()), "{values}");
        }
    }
}

#[test]
fn what_the_chart_makes_is_taken_by_the_schema_of_kubernetes() {
    for values in SHAPES {
        let Some(rendered) = python("render", values) else {
            return;
        };
        let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        file.write_all(rendered.unwrap().as_bytes()).unwrap();
        let validator = root().join("target/deploy-python/bin/kubernetes-validate");
        run(
            validator,
            &["--strict", "--quiet", file.path().to_str().unwrap()],
        );
    }
}

#[test]
fn the_program_starts_with_what_the_chart_gives_it() {
    for values in SHAPES {
        let Some(rendered) = python("render", values) else {
            return;
        };
        let documents = documents(&rendered.unwrap());
        let deployment = &of_kind(&documents, "Deployment").unwrap()["spec"];
        let pod = &deployment["template"]["spec"];
        let container = &pod["containers"][0];
        let args = strings(&container["args"]);
        let mut environment = environment(container);
        // Of another table than the flags of `serve`.
        environment.remove("NATS_STREAMING_ENCRYPTION_KEY");
        let is_file = |arg: &&String| !arg.starts_with("--config=");
        let args: Vec<String> = args[1..].iter().filter(is_file).cloned().collect();
        let config = assert_serves(&args, &environment);
        let ports = container["ports"].as_vec().unwrap();
        let http = config.http.as_ref().unwrap().port;
        assert_eq!(
            ports[0]["containerPort"].as_i64(),
            Some(http.into()),
            "{values}"
        );

        let mounts = container["volumeMounts"]
            .as_vec()
            .cloned()
            .unwrap_or_default();
        let volumes = pod["volumes"].as_vec().cloned().unwrap_or_default();
        let names = |list: &[Yaml]| -> Vec<String> {
            let names = list
                .iter()
                .map(|it| it["name"].as_str().unwrap().to_owned());
            names.collect()
        };
        assert_eq!(names(&mounts), names(&volumes), "{values}");
        let service = &of_kind(&documents, "Service").unwrap()["spec"];
        let selected = &service["selector"];
        assert_eq!(&deployment["selector"]["matchLabels"], selected);
        for (name, value) in selected.as_hash().unwrap() {
            assert_eq!(
                &deployment["template"]["metadata"]["labels"][name.as_str().unwrap()],
                value
            );
        }
    }
}

#[test]
fn values_that_cannot_work_are_refused_with_what_to_give() {
    for (values, part) in [
        ("{}", "give database.existingSecret"),
        (
            r#"{"database": {"existingSecret": "x"}, "nats": {"url": ""}}"#,
            "give nats.url, or replicas=1",
        ),
        (r#"{"databse": {}}"#, "databse"),
        (r#"{"replicas": "two"}"#, "replicas"),
    ] {
        let Some(rendered) = python("render", values) else {
            return;
        };
        let refusal = rendered.unwrap_err();
        assert!(refusal.contains(part), "{values}: {refusal}");
    }
}
