//! Rights that the role of a server loses while it runs: a standby says so before it is needed.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::pair::{Group, LIMIT, Pair, Server};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

async fn told(server: &Server, texts: &[&str]) {
    wait_until(LIMIT, async || match server.get("/readyz").await? {
        (503, page) if texts.iter().all(|text| page.contains(text)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn ready(server: &Server) {
    wait_until(LIMIT, async || match server.get("/readyz").await? {
        (200, page) if !page.contains("rights-missing") && !page.contains("login-refused") => {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn rights_that_are_taken_away_show_on_the_standby_before_it_is_needed() {
    let (Some(database), Some(nats_url)) = (postgres::database().await, nats::url().await) else {
        return;
    };
    let admin = &database.url;
    let (role, name) = (format!("{}_app", database.name), &database.name);
    let execute = async |statements: String| {
        let mut connection = PgConnection::connect(admin).await.unwrap();
        let statements = format!("SET search_path = stanby, public; {statements}");
        let done = sqlx::raw_sql(AssertSqlSafe(statements));
        done.execute(&mut connection).await.unwrap();
    };
    execute(format!(
        "CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {name} TO {role}"
    ))
    .await;
    let url = admin.replace("user=postgres", &format!("user={role}"));
    let mut group = Group::over(url, nats_url, &["--lease", "1s"]);
    group.cluster_id.clone_from(name);
    let pair = Pair::of(group).await;
    ready(&pair.standby).await;

    for (revoke, texts, grant) in [
        (
            format!("REVOKE INSERT ON takeovers FROM {role}"),
            vec![
                "rights-missing".to_owned(),
                "may not INSERT takeovers".to_owned(),
                format!("GRANT INSERT ON \\\"stanby\\\".\\\"takeovers\\\" TO \\\"{role}\\\""),
            ],
            format!("GRANT INSERT ON takeovers TO {role}"),
        ),
        (
            format!("REVOKE ALL ON SCHEMA stanby FROM {role}"),
            vec![
                "rights-missing".to_owned(),
                format!("GRANT USAGE ON SCHEMA \\\"stanby\\\" TO \\\"{role}\\\""),
            ],
            format!("GRANT ALL ON SCHEMA stanby TO {role}"),
        ),
        (
            "ALTER TABLE positions OWNER TO postgres".to_owned(),
            vec!["rights-missing".to_owned(), "positions".to_owned()],
            format!("ALTER TABLE positions OWNER TO {role}"),
        ),
        (
            format!("ALTER ROLE {role} NOLOGIN"),
            vec![
                "login-refused".to_owned(),
                format!("ALTER ROLE \\\"{role}\\\" LOGIN"),
            ],
            format!("ALTER ROLE {role} LOGIN"),
        ),
        (
            format!("ALTER ROLE {role} CONNECTION LIMIT 0"),
            vec!["login-refused".to_owned(), "CONNECTION LIMIT".to_owned()],
            format!("ALTER ROLE {role} CONNECTION LIMIT -1"),
        ),
    ] {
        execute(revoke.clone()).await;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        told(&pair.standby, &texts).await;
        let (_, metrics) = pair.standby.get("/metrics").await.unwrap();
        let condition = format!("\nstanby_condition{{kind=\"{}\"}} 1\n", texts[0]);
        assert!(metrics.contains(&condition), "{revoke}: {metrics}");
        let log = pair.standby.log();
        assert!(log.contains(texts[0]), "{log}");
        // What it tells takes nobody out of a balancer who serves.
        let (code, page) = pair.active.get("/readyz").await.unwrap();
        assert_eq!(code, 200, "{revoke}: {page}");
        execute(grant).await;
        ready(&pair.standby).await;
    }
}

#[tokio::test]
async fn a_database_that_lets_nobody_in_any_more_is_told_while_the_sessions_last() {
    let (Some(database), Some(nats_url)) = (postgres::database().await, nats::url().await) else {
        return;
    };
    let name = &database.name;
    let elsewhere = database.url.replace(name.as_str(), "postgres");
    let execute = async |statement: String| {
        let mut connection = PgConnection::connect(&elsewhere).await.unwrap();
        let done = sqlx::raw_sql(AssertSqlSafe(statement));
        done.execute(&mut connection).await.unwrap();
    };
    let mut group = Group::over(database.url.clone(), nats_url, &["--lease", "1s"]);
    group.cluster_id.clone_from(name);
    let pair = Pair::of(group).await;
    ready(&pair.standby).await;

    execute(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
    let remedy = format!("ALTER DATABASE \\\"{name}\\\" ALLOW_CONNECTIONS true");
    told(&pair.standby, &["login-refused", &remedy]).await;
    assert_eq!(pair.active.get("/readyz").await.unwrap().0, 200);

    execute(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    ready(&pair.standby).await;
}
