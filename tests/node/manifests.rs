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

/// Program and arguments of the container; the image's entry point is `stanby`.
fn command_line(file: &str) -> (String, Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy/kubernetes")
        .join(file);
    let documents = YamlLoader::load_from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let container = &documents[0]["spec"]["template"]["spec"]["containers"][0];
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
