use super::recent::RECENT_BYTES;
use super::*;

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn put(outgoing: &mut Outgoing, class: Class, text: &[u8], seconds: u64) {
    outgoing.put(class, &mut BytesMut::from(text), 1, at(seconds));
}

/// NATS says that it has all that has left.
fn confirm(outgoing: &mut Outgoing, seconds: u64) {
    let question = outgoing.ask();
    outgoing.answered(question, Duration::from_millis(5), at(seconds));
}

fn all(outgoing: &mut Outgoing) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut spare = BytesMut::new();
        let Some(next) = outgoing.next(&mut spare) else {
            return all;
        };
        if next.asked.is_some() {
            spare.truncate(spare.len() - encode::PING.len());
        }
        all.extend_from_slice(&spare);
    }
}

#[test]
fn answers_go_before_deliveries_and_each_class_keeps_its_order() {
    let mut outgoing = Outgoing::default();
    for (class, text) in [
        (Class::Delivery, &b"d1 "[..]),
        (Class::Answer, b"a1 "),
        (Class::Delivery, b"d2 "),
        (Class::Urgent, b"p1 "),
        (Class::Answer, b"a2 "),
    ] {
        put(&mut outgoing, class, text, 1);
    }

    assert_eq!(all(&mut outgoing), b"a1 p1 a2 d1 d2 ");
}

#[test]
fn deliveries_wait_until_nats_has_taken_those_before() {
    let mut outgoing = Outgoing::default();
    let delivery = vec![b'd'; 100_000];
    for _ in 0..64 {
        put(&mut outgoing, Class::Delivery, &delivery, 1);
    }
    let (mut left, mut question) = (0, None);
    loop {
        let mut spare = BytesMut::new();
        let Some(next) = outgoing.next(&mut spare) else {
            break;
        };
        left += spare.len();
        question = next.asked.or(question);
    }
    assert!((1_000_000..2_000_000).contains(&left), "{left}");
    put(&mut outgoing, Class::Answer, b"a1 ", 1);
    assert!(
        all(&mut outgoing).starts_with(b"a1 "),
        "answers do not wait"
    );

    outgoing.answered(question.unwrap(), Duration::from_millis(5), at(1));
    assert!(all(&mut outgoing).len() > 500_000);
}

#[test]
fn answers_of_the_last_moments_are_sent_again_after_a_reconnect() {
    let mut outgoing = Outgoing::default();
    put(&mut outgoing, Class::Answer, b"old ", 1);
    assert_eq!(all(&mut outgoing), b"old ");
    confirm(&mut outgoing, 1);
    put(&mut outgoing, Class::Answer, b"sent ", 9);
    assert_eq!(all(&mut outgoing), b"sent ");
    confirm(&mut outgoing, 9);
    put(&mut outgoing, Class::Answer, b"waiting ", 10);
    put(&mut outgoing, Class::Urgent, b"probe ", 10);
    put(&mut outgoing, Class::Delivery, b"delivery ", 10);

    outgoing.end(None, at(10));
    outgoing.begin(BytesMut::from(&b"SUB "[..]), at(10));
    assert_eq!(all(&mut outgoing), b"SUB sent waiting ");

    outgoing.forget_answers();
    outgoing.begin(BytesMut::new(), at(10));
    assert_eq!(all(&mut outgoing), b"");
}

#[test]
fn answers_that_a_slow_link_has_not_carried_yet_are_sent_again_however_old_they_are() {
    let mut outgoing = Outgoing::default();
    put(&mut outgoing, Class::Answer, b"there ", 1);
    all(&mut outgoing);
    confirm(&mut outgoing, 1);
    put(&mut outgoing, Class::Answer, b"on-the-way ", 1);
    all(&mut outgoing);
    put(&mut outgoing, Class::Answer, b"waiting ", 1);

    put(&mut outgoing, Class::Answer, b"new ", 20);
    outgoing.end(None, at(20));
    outgoing.begin(BytesMut::new(), at(20));
    assert_eq!(all(&mut outgoing), b"on-the-way waiting new ");

    outgoing.end(None, at(40));
    outgoing.begin(BytesMut::new(), at(40));
    assert_eq!(all(&mut outgoing), b"on-the-way waiting new ");
    confirm(&mut outgoing, 40);
    outgoing.end(None, at(50));
    outgoing.begin(BytesMut::new(), at(50));
    assert_eq!(all(&mut outgoing), b"");
}

#[test]
fn what_a_slow_link_has_carried_of_the_answers_is_not_sent_once_more() {
    let mut outgoing = Outgoing::default();
    for text in [b"1", b"2", b"3"] {
        outgoing.keep(&mut BytesMut::from(&text.repeat(PIECE_BYTES)[..]), 1);
    }
    outgoing.begin(BytesMut::new(), at(1));
    let mut piece = BytesMut::new();
    let first = outgoing.next(&mut piece).unwrap();
    assert!(piece.starts_with(b"1") && piece.len() < 2 * PIECE_BYTES);
    put(&mut outgoing, Class::Urgent, b"probe ", 1);
    put(&mut outgoing, Class::Answer, b"4 ", 1);
    piece.clear();
    outgoing.next(&mut piece).unwrap();
    assert_eq!(piece, b"probe "[..], "what is urgent does not wait for it");
    outgoing.answered(first.asked.unwrap(), Duration::from_secs(5), at(6));

    outgoing.end(None, at(9));
    outgoing.begin(BytesMut::new(), at(9));
    let left = all(&mut outgoing);
    assert!(left.starts_with(b"2") && left.ends_with(b"34 "));
    assert_eq!(left.len(), 2 * PIECE_BYTES + 2);
}

#[test]
fn answers_that_three_connections_end_with_are_forgotten() {
    let mut outgoing = Outgoing::default();
    put(&mut outgoing, Class::Answer, b"deadly ", 1);
    for second in 1..=3 {
        assert_eq!(all(&mut outgoing), b"deadly ");
        outgoing.end(None, at(second));
        outgoing.begin(BytesMut::new(), at(second));
    }
    assert_eq!(all(&mut outgoing), b"");
    put(&mut outgoing, Class::Answer, b"after ", 4);
    assert_eq!(all(&mut outgoing), b"after ");
}

#[test]
fn answers_that_another_server_goes_on_after_are_there() {
    let mut outgoing = Outgoing::default();
    put(&mut outgoing, Class::Answer, b"before ", 1);
    all(&mut outgoing);
    put(&mut outgoing, Class::Answer, b"farewell ", 1);
    assert_eq!(outgoing.take_urgent(), b"farewell "[..]);
    outgoing.go_on(BytesMut::from(&b"SUB "[..]), at(1));
    put(&mut outgoing, Class::Answer, b"after ", 9);
    assert_eq!(all(&mut outgoing), b"SUB after ");

    outgoing.end(None, at(10));
    outgoing.begin(BytesMut::new(), at(10));
    assert_eq!(all(&mut outgoing), b"after ");
}

#[test]
fn answers_that_were_to_be_repeated_are_when_the_connection_ends_before() {
    let mut outgoing = Outgoing::default();
    put(&mut outgoing, Class::Answer, b"first ", 9);
    outgoing.end(None, at(10));
    outgoing.begin(BytesMut::new(), at(10));
    outgoing.end(None, at(12));
    outgoing.keep(&mut BytesMut::from(&b"second "[..]), 1);
    outgoing.begin(BytesMut::new(), at(12));
    all(&mut outgoing);

    outgoing.repeat(at(15));
    assert_eq!(all(&mut outgoing), b"first second ");
}

#[test]
fn answers_given_without_a_connection_leave_with_the_next_one_however_late_it_comes() {
    let mut outgoing = Outgoing::default();
    put(&mut outgoing, Class::Answer, b"before ", 9);
    outgoing.end(None, at(10));
    outgoing.keep(&mut BytesMut::from(&b"between "[..]), 1);
    assert_eq!(all(&mut outgoing), b"");

    outgoing.begin(BytesMut::from(&b"SUB "[..]), at(10));
    assert_eq!(all(&mut outgoing), b"SUB before between ");
}

#[test]
fn clients_that_are_back_later_than_this_side_get_the_answers_of_before_again() {
    let mut outgoing = Outgoing::default();
    put(&mut outgoing, Class::Answer, b"before ", 9);
    outgoing.end(None, at(10));
    outgoing.begin(BytesMut::from(&b"SUB "[..]), at(10));
    put(&mut outgoing, Class::Answer, b"after ", 11);
    all(&mut outgoing);

    let mut left = Vec::new();
    for second in 11..30 {
        outgoing.repeat(at(second));
        let repeated = all(&mut outgoing);
        if !repeated.is_empty() {
            assert_eq!(repeated, b"before after ");
            left.push(second);
        }
        put(&mut outgoing, Class::Delivery, b"delivery ", second);
        all(&mut outgoing);
        confirm(&mut outgoing, second);
    }
    assert_eq!(left, [13, 18]);
    put(&mut outgoing, Class::Answer, b"much later ", 30);
    assert!(outgoing.recent.repeats_nothing(), "and are kept no longer");

    outgoing.end(None, at(30));
    outgoing.begin(BytesMut::new(), at(30));
    assert_eq!(all(&mut outgoing), b"much later ");
    outgoing.forget_answers();
    outgoing.repeat(at(40));
    assert_eq!(all(&mut outgoing), b"", "somebody else answers now");
}

#[test]
fn answers_that_wait_for_a_connection_are_bounded_in_bytes_and_the_oldest_go_first() {
    let mut outgoing = Outgoing::default();
    for text in [b"1", b"2", b"3"] {
        let mut answers = BytesMut::from(&text.repeat(RECENT_BYTES / 2)[..]);
        outgoing.keep(&mut answers, 1);
    }

    outgoing.begin(BytesMut::new(), at(10));
    let mut left = all(&mut outgoing);
    confirm(&mut outgoing, 10);
    left.extend(all(&mut outgoing));
    assert_eq!(left.len(), RECENT_BYTES);
    assert!(left.starts_with(b"2"), "the oldest are dropped");
}

#[test]
fn answers_that_a_connection_ended_before_are_bounded_with_those_that_come_meanwhile() {
    let mut outgoing = Outgoing::default();
    let half = |text: &[u8; 1]| BytesMut::from(&text.repeat(RECENT_BYTES / 2)[..]);
    outgoing.keep(&mut half(b"1"), 1);
    outgoing.keep(&mut half(b"2"), 1);
    outgoing.begin(BytesMut::new(), at(1));
    outgoing.end(None, at(2));
    outgoing.keep(&mut half(b"3"), 1);
    outgoing.keep(&mut half(b"4"), 1);

    outgoing.begin(BytesMut::new(), at(3));
    let mut left = all(&mut outgoing);
    confirm(&mut outgoing, 3);
    left.extend(all(&mut outgoing));
    assert!(left.starts_with(b"3") && left.ends_with(b"4"));
    assert_eq!(left.len(), RECENT_BYTES);
}

#[test]
fn a_flood_after_a_reconnect_waits_for_the_answers_of_before_and_none_is_dropped() {
    let mut outgoing = Outgoing::default();
    let answers = vec![b'a'; PIECE_BYTES];
    let flood = |outgoing: &mut Outgoing| {
        let pieces = (0..3 * SEND_BYTES / PIECE_BYTES)
            .take_while(|_| {
                let has_room = outgoing.has_room(Class::Answer);
                if has_room {
                    put(outgoing, Class::Answer, &answers, 1);
                }
                has_room
            })
            .count();
        pieces * PIECE_BYTES
    };
    let mut given = flood(&mut outgoing);
    outgoing.end(None, at(1));
    assert!(
        outgoing.has_room(Class::Answer),
        "without a connection nothing would make room"
    );
    outgoing.begin(BytesMut::new(), at(1));
    assert!(!outgoing.has_room(Class::Answer));
    assert!(!outgoing.has_room(Class::Delivery), "it would overtake");
    assert!(outgoing.has_room(Class::Urgent), "it goes first");

    let mut left = 0;
    for _ in 0..20 {
        left += all(&mut outgoing).len();
        confirm(&mut outgoing, 1);
        given += flood(&mut outgoing);
    }
    while outgoing.recent.sends_again() {
        left += all(&mut outgoing).len();
        confirm(&mut outgoing, 1);
    }
    left += all(&mut outgoing).len();
    assert_eq!(left, given);
    assert_eq!(outgoing.dropped_answers(), 0);
}

#[test]
fn answers_that_are_dropped_while_they_wait_are_counted_and_those_that_wait_are_not() {
    let mut outgoing = Outgoing::default();
    let many = vec![b'a'; RECENT_BYTES / 2];
    outgoing.put(Class::Answer, &mut BytesMut::from(&many[..]), 2, at(1));
    put(&mut outgoing, Class::Urgent, b"probe ", 1);
    put(&mut outgoing, Class::Delivery, b"delivery ", 1);
    assert_eq!(outgoing.end(None, at(1)), 2, "all but the answers are lost");
    outgoing.keep(&mut BytesMut::from(&many[..]), 3);
    assert_eq!(outgoing.dropped_answers(), 0);
    outgoing.keep(&mut BytesMut::from(&b"more"[..]), 4);
    assert_eq!(outgoing.dropped_answers(), 2, "the oldest");

    for second in 2..=4 {
        outgoing.begin(BytesMut::new(), at(second));
        all(&mut outgoing);
        outgoing.end(None, at(second));
    }
    assert_eq!(outgoing.dropped_answers(), 2);
    outgoing.begin(BytesMut::new(), at(5));
    assert_eq!(
        outgoing.dropped_answers(),
        2 + 3,
        "what three connections end with"
    );
    assert_eq!(all(&mut outgoing), b"more");

    let mut outgoing = Outgoing::default();
    for _ in 0..4 {
        put(&mut outgoing, Class::Answer, &many, 1);
        all(&mut outgoing);
    }
    assert_eq!(outgoing.dropped_answers(), 0, "they have left");
    let left = outgoing.end(None, at(1));
    assert_eq!(left, 0);
    assert_eq!(
        outgoing.dropped_answers(),
        2,
        "the connection ended before NATS said that it has them, and two were not kept"
    );

    let mut outgoing = Outgoing::default();
    for _ in 0..4 {
        put(&mut outgoing, Class::Answer, &many, 1);
        all(&mut outgoing);
    }
    confirm(&mut outgoing, 1);
    outgoing.end(None, at(1));
    assert_eq!(outgoing.dropped_answers(), 0, "NATS had them all");
}
