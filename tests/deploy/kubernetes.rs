//! `deploy/kubernetes/stanby.yaml`: commands, variables, ports and probes that the program has.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use stanby::clock::Clock;
use stanby::http::Server;
use stanby::monitoring::reports::Reports;
use stanby::node::NewNode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use yaml_rust2::Yaml;

use crate::program::{assert_serves, root};
use crate::tools::run;
use crate::yaml::{documents, strings};

const FILE: &str = "deploy/kubernetes/stanby.yaml";

fn of_kind<'a>(documents: &'a [Yaml], kind: &str) -> &'a Yaml {
    let found = documents
        .iter()
        .find(|it| it["kind"].as_str() == Some(kind));
    found.unwrap_or_else(|| panic!("no {kind}"))
}

fn variables(container: &Yaml) -> BTreeMap<String, String> {
    let entries = container["env"].as_vec().unwrap();
    let entry = |entry: &Yaml| {
        let name = entry["name"].as_str().unwrap().to_owned();
        let secret = &entry["valueFrom"]["secretKeyRef"]["key"];
        let value = match (entry["value"].as_str(), secret.as_str()) {
            (Some(value), None) => value,
            (None, Some("database-url")) => "postgres://stanby@db.example/stan?sslmode=verify-full",
            other => panic!("{name}: {other:?}"),
        };
        (name, value.to_owned())
    };
    entries.iter().map(entry).collect()
}

#[tokio::test]
async fn the_deployment_starts_a_pair_whose_probes_are_answered() {
    let documents = documents(FILE);
    let deployment = &of_kind(&documents, "Deployment")["spec"];
    assert_eq!(deployment["replicas"].as_i64(), Some(2));
    let pod = &deployment["template"]["spec"];
    assert!(pod["volumes"].is_badvalue(), "it needs none");
    let container = &pod["containers"][0];
    let args = strings(&container["args"]);
    assert_eq!(args[0], "serve");
    let config = assert_serves(&args[1..], &variables(container));
    let port = &container["ports"][0];
    assert_eq!(
        port["containerPort"].as_i64(),
        Some(config.http.as_ref().unwrap().port.into())
    );

    let pages = Server::bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))
        .await
        .unwrap();
    let address = pages.local_addr();
    let status = NewNode::new(config).unwrap().status();
    let stop = CancellationToken::new();
    let answered = async {
        let mut paths = vec!["/metrics".to_owned()];
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let get = &container[probe]["httpGet"];
            assert_eq!(get["port"].as_str(), port["name"].as_str(), "{probe}");
            paths.push(get["path"].as_str().unwrap().to_owned());
        }
        for path in paths {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.0\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(!answer.starts_with("HTTP/1.0 404"), "{path}: {answer}");
        }
        stop.cancel();
    };
    let run = pages.run(status, Reports::default(), Clock, stop.clone());
    tokio::join!(run, answered);
}

#[test]
fn the_schema_of_kubernetes_takes_the_manifests() {
    let validator = root().join("target/deploy-python/bin/kubernetes-validate");
    let files = [
        FILE,
        "deploy/kubernetes/from-memory.yaml",
        "deploy/kubernetes/from-file-store.yaml",
        "deploy/kubernetes/from-raft.yaml",
        "deploy/kubernetes/from-fault-tolerance.yaml",
        "deploy/kubernetes/from-argo-events.yaml",
        "deploy/kubernetes/from-openfaas.yaml",
    ];
    run(validator, &[&["--strict", "--quiet"], &files[..]].concat());
}

#[test]
fn one_pod_of_the_pair_may_be_missing_and_all_select_the_same_pods() {
    let documents = documents(FILE);
    let budget = &of_kind(&documents, "PodDisruptionBudget")["spec"];
    assert_eq!(budget["minAvailable"].as_i64(), Some(1));
    let deployment = &of_kind(&documents, "Deployment")["spec"];
    let labels = &deployment["template"]["metadata"]["labels"];
    assert!(labels.as_hash().is_some_and(|labels| !labels.is_empty()));
    let service = &of_kind(&documents, "Service")["spec"];
    for selector in [
        &deployment["selector"]["matchLabels"],
        &budget["selector"]["matchLabels"],
        &service["selector"],
    ] {
        assert_eq!(selector, labels);
    }
}
