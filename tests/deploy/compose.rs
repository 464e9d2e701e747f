//! `docker-compose.yml`: a pair that would start.

use crate::program::{assert_parses, assert_serves};
use crate::tools::run;
use crate::yaml::{documents, strings, texts};

const FILE: &str = "docker-compose.yml";

#[test]
fn the_servers_of_the_compose_file_have_commands_and_variables_that_exist() {
    let file = documents(FILE).remove(0);
    let services = file["services"].as_hash().unwrap();
    let servers: Vec<_> = services
        .values()
        .filter(|service| service["image"].as_str() == Some("stanby"))
        .collect();
    assert_eq!(servers.len(), 2);

    for server in servers {
        let build = (
            server["build"]["context"].as_str(),
            server["build"]["dockerfile"].as_str(),
        );
        assert_eq!(build, (Some("."), Some("deploy/Dockerfile")));
        let mut environment = texts(&server["environment"]);
        let url = environment.get_mut("STANBY_DATABASE_URL").unwrap();
        *url = url.replace("${POSTGRES_PASSWORD:-stanby}", "stanby");
        let command = strings(&server["command"]);
        assert_eq!(command[0], "serve");
        let config = assert_serves(&command[1..], &environment);
        let port = config.http.as_ref().unwrap().port;

        let check = strings(&server["healthcheck"]["test"]);
        assert_eq!((check[0].as_str(), check[2].as_str()), ("CMD", "health"));
        assert_parses(&check[1..]);
        let published = strings(&server["ports"]);
        assert!(published.iter().all(|it| it.ends_with(&format!(":{port}"))));
        assert_eq!(config.nats.servers, ["nats://nats:4222"]);
        assert!(config.database_url.address().starts_with("postgres:"));
        for (needed, _) in server["depends_on"].as_hash().unwrap() {
            assert!(!services[needed]["healthcheck"].is_badvalue(), "{needed:?}");
        }
    }
}

#[test]
fn docker_compose_takes_the_file() {
    run("docker-compose", &["-f", FILE, "config", "-q"]);
}
