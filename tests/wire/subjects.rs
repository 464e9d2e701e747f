//! Which subjects a cluster ID stands for, and which cluster IDs and prefixes can.

use stanby::core::limits::ChannelPattern;
use stanby::core::partition::Partition;
use stanby::protocol::Subjects;
use stanby::protocol::subjects::{AdvertisedSubjects, Error, Prefixes};

fn with_prefixes(discover: Option<&str>, ack: Option<&str>) -> Result<Subjects, Error> {
    let owned = |text: &str| text.to_owned();
    Subjects::new(
        "c1",
        &Prefixes {
            discover: discover.map(owned),
            ack: ack.map(owned),
            group: None,
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
fn a_cluster_id_is_a_part_of_a_subject() {
    let long = "x".repeat(513);
    for bad in [
        "",
        "a..b",
        ".a",
        "a.",
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
    let dotted = Subjects::new("prod.shop", &Prefixes::default()).unwrap();
    assert_eq!(dotted.publish_wildcard(), "_STAN.pub.prod.shop.>");
    assert!(dotted.is_publish_to(b"_STAN.pub.prod.shop.orders.new", "orders.new"));
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

#[test]
fn clients_keep_the_subjects_that_they_were_told() {
    let advertised = AdvertisedSubjects {
        publish_prefix: "_STAN.pub.random".to_owned(),
        subscribe: "_STAN.sub.random".to_owned(),
        unsubscribe: "_STAN.unsub.random".to_owned(),
        close_subscription: "_STAN.subclose.random".to_owned(),
        close_client: "_STAN.close.random".to_owned(),
    };
    let own = with_prefixes(None, None).unwrap();
    let subjects = own.clone().advertising(advertised.clone()).unwrap();

    assert_eq!(subjects.publishes(), ["_STAN.pub.random.>"]);
    assert_eq!(subjects.subscribe(), "_STAN.sub.random");
    assert_eq!(subjects.unsubscribe(), "_STAN.unsub.random");
    assert_eq!(subjects.close_subscription(), "_STAN.subclose.random");
    assert_eq!(subjects.close_client(), "_STAN.close.random");
    assert_eq!(subjects.discover(), own.discover());
    assert_eq!(subjects.ack_prefix(), own.ack_prefix());
    let wildcard = AdvertisedSubjects {
        subscribe: "_STAN.>".to_owned(),
        ..advertised
    };
    assert!(own.advertising(wildcard).is_err());
}

#[test]
fn a_group_of_several_listens_to_the_publishes_of_its_own_channels() {
    let entry = |text: &str| ChannelPattern::parse(text.to_owned().into()).unwrap();
    let serving = |entries: &[&str]| {
        let entries = entries.iter().map(|text| entry(text)).collect();
        let partition = Partition::new(entries).unwrap();
        with_prefixes(None, None).unwrap().serving(&partition)
    };
    let all = with_prefixes(None, None).unwrap();
    assert_eq!(all.publishes(), ["_STAN.pub.c1.>"]);
    assert_eq!(all.partition_peers(), "_STAN.part.c1");

    let own = serving(&["orders.>", "billing", "orders.new"]).unwrap();
    assert_eq!(
        own.publishes(),
        ["_STAN.pub.c1.billing", "_STAN.pub.c1.orders.>"]
    );
    // What clients are told is the same for all groups.
    assert_eq!(own.publish_prefix(), all.publish_prefix());
    assert_eq!(own.subscribe(), all.subscribe());

    let overlapping = serving(&["foo.*", "*.bar"]).unwrap();
    assert_eq!(
        overlapping.publishes(),
        ["_STAN.pub.c1.*.bar", "_STAN.pub.c1.foo.*"]
    );
    let taken = |subject: &str| [0, 1].map(|index| overlapping.is_first(index, subject.as_bytes()));
    assert_eq!(taken("_STAN.pub.c1.foo.bar"), [true, false]);
    assert_eq!(taken("_STAN.pub.c1.foo.x"), [false, true]);
    assert_eq!(taken("_STAN.pub.c1.x.bar"), [true, false]);

    let refusal = serving(&["with space"]).unwrap_err().to_string();
    assert!(
        refusal.contains("\"with space\" cannot be served"),
        "{refusal}"
    );
}

#[test]
fn ack_inboxes_of_one_group_are_not_heard_by_another() {
    let of = |group: &str| {
        let prefixes = Prefixes {
            group: Some(group.to_owned()),
            ..Prefixes::default()
        };
        Subjects::new("c1", &prefixes).unwrap()
    };
    let orders = of("orders");

    assert_eq!(orders.ack_wildcard(), "_INBOX.c1.orders.>");
    assert!(orders.is_ack_inbox("_INBOX.c1.orders.7.abc"));
    assert!(!orders.is_ack_inbox("_INBOX.c1.7.abc"));
    assert!(!of("billing").is_ack_inbox("_INBOX.c1.orders.7.abc"));
}
