//! Manifests under `deploy/kubernetes/` of those who come from nats-streaming-server: the command line of the container,
//! with this test's ports and directory in the place of the pod's, serves a client.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::os::unix::process::CommandExt as _;
use std::path::Path;

use nix::sys::signal::Signal;
use yaml_rust2::{Yaml, YamlLoader};

use crate::pair::{LIMIT, Server};
use crate::start_lines::Line;
use crate::stores::{Case, Contents};

fn documents(file: &str) -> Vec<Yaml> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy/kubernetes")
        .join(file);
    YamlLoader::load_from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Program and arguments of the container; the image's entry point is `stanby`.
fn command_line(file: &str) -> (String, Vec<String>) {
    command_line_of(&documents(file)[0])
}

fn command_line_of(document: &Yaml) -> (String, Vec<String>) {
    let container = &document["spec"]["template"]["spec"]["containers"][0];
    let strings = |list: &Yaml| -> Vec<String> {
        let items = list.as_vec().map(Vec::as_slice).unwrap_or_default();
        let item = |item: &Yaml| item.as_str().unwrap().to_owned();
        items.iter().map(item).collect()
    };
    let mut line = strings(&container["command"]);
    if line.is_empty() {
        line.push("stanby".to_owned());
    }
    line.extend(strings(&container["args"]));
    (line.remove(0), line)
}

/// With what the pod has to itself replaced; each must be there.
fn start(line: &Line, file: &str, replaced: &[(&str, &str)]) -> Server {
    let (program, mut arguments) = command_line(file);
    let (nats, http) = (line.nats_port.to_string(), line.http_port.to_string());
    let ports = [("4222", nats.as_str()), ("8222", http.as_str())];
    for (from, to) in ports.iter().chain(replaced) {
        let place = arguments.iter_mut().find(|argument| argument == from);
        (*to).clone_into(place.unwrap());
    }
    let mut command = line.command();
    command.arg0(program).args(arguments);
    Server::start(command, line.http_port)
}

/// With each of these in the place of what the pod has to itself.
fn filled(arguments: Vec<String>, replaced: &[(&str, &str)]) -> Vec<String> {
    let mut left: Vec<_> = replaced.iter().collect();
    let filled = arguments.into_iter().map(|argument| {
        match left.iter().position(|(from, _)| *from == argument) {
            Some(place) => left.remove(place).1.to_owned(),
            None => argument,
        }
    });
    let filled = filled.collect();
    assert!(left.is_empty(), "not in the manifest: {left:?}");
    filled
}

async fn publishes(line: &Line, cluster_id: &str) {
    let client = line.client(cluster_id, None).await;
    let mut publisher = client.publisher("from.the.manifest").await;
    publisher.send_until_acked(LIMIT).await;
}

#[tokio::test]
async fn the_manifest_of_one_line_with_the_memory_store_serves_a_client() {
    let Some(line) = Line::new().await else {
        return;
    };
    let mut server = start(&line, "from-memory.yaml", &[]);
    server.wait_until_active().await;
    publishes(&line, "shop").await;
    server.signal(Signal::SIGTERM);
    server.end().await;
}

#[tokio::test]
async fn the_manifest_of_a_file_store_brings_the_volume_along_and_serves_a_client() {
    let Some(line) = Line::new().await else {
        return;
    };
    let case = Case::unpack("plain-clean");
    let store = case.store();
    let replaced = [
        ("/data/stan", store.to_str().unwrap()),
        ("test-cluster", case.cluster_id()),
    ];
    let mut server = start(&line, "from-file-store.yaml", &replaced);
    server.wait_until_active().await;
    let stored = Contents::stored(&line.database.url, "stanby").await;
    stored.assert_has_messages_of(&Contents::told(case.recovered()), &case.name);
    publishes(&line, case.cluster_id()).await;
    server.signal(Signal::SIGTERM);
    server.end().await;
}

#[tokio::test]
async fn the_manifest_of_a_raft_cluster_imports_all_volumes_and_its_pods_take_over_from_each_other()
{
    let (Some(line), Some(nats)) = (
        Line::new().await,
        crate::support::nats::own_server(&[]).await,
    ) else {
        return;
    };
    let case = Case::unpack("raft-clean");
    let documents = documents("from-raft.yaml");
    let nodes = ["a", "b", "c"].map(|node| {
        case.root()
            .join(&case.name)
            .join(node)
            .display()
            .to_string()
    });
    let nats = nats.url();
    let shared = [
        ("nats://nats:4222", &nats[..]),
        ("test-cluster", case.cluster_id()),
    ];

    let (program, arguments) = command_line_of(&documents[0]);
    assert_eq!(program, "stanby");
    let from = format!("raft:{}", nodes.join(","));
    let places = [
        &[("raft:/data/stan-0,/data/stan-1,/data/stan-2", &from[..])],
        &shared[..],
    ];
    let mut job = line.command();
    job.arg0("stanby").args(filled(arguments, &places.concat()));
    let output = tokio::process::Command::from(job).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let stored = Contents::stored(&line.database.url, "stanby").await;
    stored.assert_is(&Contents::told(case.recovered()), &case.name);

    let pods = ["a", "b", "c"].map(|node| {
        let pod = line.beside();
        let root = case.root().join(&case.name).join(node);
        let [store, log] = ["store", "raft"].map(|part| root.join(part).display().to_string());
        let http = pod.http_port.to_string();
        let places = [
            ("8222", &http[..]),
            ("/data/stan/store", &store),
            ("/data/stan/raft", &log),
            ("$(POD_NAME)", node),
        ];
        let (program, arguments) = command_line_of(&documents[1]);
        let mut command = pod.command();
        command
            .arg0(program)
            .args(filled(arguments, &[&places[..], &shared].concat()));
        Server::start(command, pod.http_port)
    });
    let [first, second, third] = pods;
    let servers = [&first, &second, &third];
    let active = crate::pair::wait_for_one_active(&servers).await;
    let mut left: Vec<Server> = vec![first, second, third];
    left.remove(active).kill().await;
    crate::pair::wait_for_one_active(&left.iter().collect::<Vec<_>>()).await;
    let client = async_nats::connect(&nats).await.unwrap();
    let client = crate::stan::StanClient::connect(client, case.cluster_id(), "after").await;
    let client = client.unwrap();
    let mut publisher = client.publisher("from.the.manifest").await;
    publisher.send_until_acked(LIMIT).await;
}

#[tokio::test]
async fn the_manifest_of_a_fault_tolerant_group_imports_the_shared_disk_once_and_goes_on_as_a_pair()
{
    let (Some(line), Some(nats)) = (
        Line::new().await,
        crate::support::nats::own_server(&[]).await,
    ) else {
        return;
    };
    let case = Case::unpack("ft");
    let (store, nats) = (case.store().display().to_string(), nats.url());
    let pods = [(); 2].map(|()| {
        let pod = line.beside();
        let http = pod.http_port.to_string();
        let places = [
            ("nats://nats:4222", &nats[..]),
            ("test-cluster", case.cluster_id()),
            ("8222", &http),
            ("/data/stan", &store),
        ];
        let (program, arguments) = command_line("from-fault-tolerance.yaml");
        let mut command = pod.command();
        command.arg0(program).args(filled(arguments, &places));
        Server::start(command, pod.http_port)
    });
    let [first, second] = pods;
    let active = crate::pair::wait_for_one_active(&[&first, &second]).await;
    let stored = Contents::stored(&line.database.url, "stanby").await;
    stored.assert_has_messages_of(&Contents::told(case.recovered()), &case.name);
    let mut both = vec![first, second];
    both.remove(active).kill().await;
    both[0].wait_until_active().await;
    let client = async_nats::connect(&nats).await.unwrap();
    let client = crate::stan::StanClient::connect(client, case.cluster_id(), "after").await;
    let client = client.unwrap();
    let mut publisher = client.publisher("from.the.manifest").await;
    publisher.send_until_acked(LIMIT).await;
}

#[tokio::test]
async fn the_manifest_of_argo_events_serves_a_client_with_its_token() {
    let Some(line) = Line::new().await else {
        return;
    };
    let config = &documents("from-argo-events.yaml")[1]["data"];
    let cluster = crate::pair::free_port().to_string();
    for (name, text) in config.as_hash().unwrap() {
        let text = text.as_str().unwrap();
        let text = [
            ("4222", "{nats}"),
            ("8222", "{http}"),
            ("6222", &cluster[..]),
        ]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
        .replace("/data/stan", "{folder}/data")
        .replace(
            "eventbus-default-stan-0.eventbus-default-stan.argo-events.svc",
            "127.0.0.1",
        );
        line.file(name.as_str().unwrap(), &text);
    }
    let (program, arguments) = command_line("from-argo-events.yaml");
    let file = line.path("stan.conf").display().to_string();
    let mut command = line.command();
    command
        .arg0(program)
        .args(filled(arguments, &[("/etc/stan-config/stan.conf", &file)]))
        .env("POD_NAME", "eventbus-default-stan-0")
        .env("CLUSTER_ADVERTISE", "127.0.0.1");
    let mut server = Server::start(command, line.http_port);
    server.wait_until_active().await;
    let nats = async_nats::ConnectOptions::with_token("a-token-of-the-bus".to_owned());
    let nats = nats
        .connect(format!("127.0.0.1:{}", line.nats_port))
        .await
        .unwrap();
    let client =
        crate::stan::StanClient::connect(nats, "eventbus-argo-events-default", "sensor").await;
    let client = client.unwrap();
    let mut publisher = client.publisher("events").await;
    publisher.send_until_acked(LIMIT).await;
    server.signal(Signal::SIGTERM);
    server.end().await;
}

#[tokio::test]
async fn the_manifest_of_openfaas_serves_a_client() {
    let Some(line) = Line::new().await else {
        return;
    };
    let (program, arguments) = command_line("from-openfaas.yaml");
    let (nats, http) = (line.nats_port.to_string(), line.http_port.to_string());
    let mut command = line.command();
    command
        .arg0(program)
        .args(filled(arguments, &[("8222", &http)]));
    // The pod has the usual port to itself.
    command.args(["-p", &nats]);
    let mut server = Server::start(command, line.http_port);
    server.wait_until_active().await;
    publishes(&line, "faas-cluster").await;
    server.signal(Signal::SIGTERM);
    server.end().await;
}
