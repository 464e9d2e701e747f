//! Which subjects a cluster ID stands for, and which cluster IDs and prefixes can.

use stanby::protocol::Subjects;
use stanby::protocol::subjects::{Error, Prefixes};

fn with_prefixes(discover: Option<&str>, ack: Option<&str>) -> Result<Subjects, Error> {
    let owned = |text: &str| text.to_owned();
    Subjects::new(
        "c1",
        &Prefixes {
            discover: discover.map(owned),
            ack: ack.map(owned),
        },
    )
}

#[test]
fn a_cluster_listens_where_clients_expect_it() {
    let subjects = with_prefixes(None, None).unwrap();

    assert_eq!(subjects.discover(), "_STAN.discover.c1");
    assert_eq!(subjects.pings(), "_STAN.discover.c1.pings");
    assert_eq!(subjects.publish_prefix(), "_STAN.pub.c1");
    assert_eq!(subjects.publish_wildcard(), "_STAN.pub.c1.>");
    assert_eq!(subjects.subscribe(), "_STAN.sub.c1");
    assert_eq!(subjects.unsubscribe(), "_STAN.unsub.c1");
    assert_eq!(subjects.close_subscription(), "_STAN.subclose.c1");
    assert_eq!(subjects.close_client(), "_STAN.close.c1");
    assert_eq!(subjects.ack_prefix(), "_INBOX.c1");
    assert_eq!(subjects.ack_wildcard(), "_INBOX.c1.>");
    assert_eq!(subjects.servers(), "_STAN.servers.c1");
}

#[test]
fn only_the_discover_and_the_ack_prefix_can_be_changed() {
    let subjects = with_prefixes(Some("site.find"), Some("site.acks")).unwrap();

    assert_eq!(subjects.discover(), "site.find.c1");
    assert_eq!(subjects.pings(), "site.find.c1.pings");
    assert_eq!(subjects.ack_wildcard(), "site.acks.>");
    assert_eq!(subjects.publish_prefix(), "_STAN.pub.c1");
}

#[test]
fn a_cluster_id_is_one_token_of_a_subject() {
    let long = "x".repeat(513);
    for bad in [
        "",
        "a.b",
        "a b",
        "*",
        "a*",
        ">",
        "a>",
        "a\r\nPUB x 0",
        "a\0",
        long.as_str(),
    ] {
        assert_eq!(
            Subjects::new(bad, &Prefixes::default()),
            Err(Error::ClusterId(bad.to_owned())),
            "{bad:?}"
        );
    }
    assert!(Subjects::new("my_cluster-1", &Prefixes::default()).is_ok());
}

#[test]
fn a_prefix_is_a_subject_without_wildcards() {
    for bad in ["", ".", "a.", "a..b", "a.*", "a.>", "a b"] {
        let discover = with_prefixes(Some(bad), None);
        assert_eq!(
            discover,
            Err(Error::Prefix {
                what: "discover",
                prefix: bad.to_owned()
            })
        );
        let ack = with_prefixes(None, Some(bad));
        assert_eq!(
            ack,
            Err(Error::Prefix {
                what: "ack",
                prefix: bad.to_owned()
            })
        );
    }
}
