//! The buttons of a durable's page, as somebody presses them who follows its links and sends its forms.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use crate::admin::publish;
use crate::console::{Answer, Browser, PASSWORD, form, with_users};
use crate::pair::LIMIT;
use crate::stan::Subscription;
use crate::support::wait::wait_until;

/// The value of an attribute, as a browser understands it.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    let value = value.replace("&quot;", "\"").replace("&lt;", "<");
    Some(value.replace("&gt;", ">").replace("&amp;", "&"))
}

/// Where the link with this text leads.
fn link(page: &Answer, text: &str) -> Option<String> {
    let (before, _) = page.body.split_once(&format!(">{text}</a>"))?;
    attribute(&before[before.rfind("<a ")?..], "href")
}

/// Sends the first form of a verb on the page as it is filled in, and goes where that leads.
async fn send(browser: &mut Browser, page: &Answer) -> Answer {
    let (_, rest) = page.body.split_once("<form class=\"verb\"").unwrap();
    let (sent, _) = rest.split_once("</form>").unwrap();
    let inputs = sent.split("<input ").skip(1);
    let fields: Vec<(String, String)> = inputs
        .map(|input| {
            let (input, _) = input.split_once('>').unwrap();
            let value = attribute(input, " value").unwrap_or_default();
            (attribute(input, "name").unwrap(), value)
        })
        .collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (&**n, &**v)).collect();
    let place = attribute(sent, "action").unwrap();
    browser.act(&place, &form(&fields)).await
}

async fn wait_for(received: &Subscription, last: u64) {
    let all = (1..=last).collect();
    wait_until(LIMIT, async || match received.sequences() {
        got if got == all => Ok(()),
        got => Err(format!("{got:?} of {all:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_durable_is_paused_and_resumed_by_the_buttons_of_its_page_after_a_look_at_what_they_do() {
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = with_users(folder.path()).await else {
        return;
    };
    let client = pair.group.client("worker").await;
    publish(&client, "orders", 1).await;
    let billing = client.subscribe("orders", "", "billing").await.unwrap();
    let other = client.subscribe("orders", "", "other").await.unwrap();
    let mut browser = Browser::new(pair.standby.http_port);
    assert_eq!(browser.log_in("operator", PASSWORD).await, 303);
    let durable = "/console/durable?channel=orders&durable=billing";

    let page = browser.get(durable).await;
    assert_eq!(link(&page, "Resume…"), None, "{}", page.body);
    let asked = browser.get(&link(&page, "Pause…").unwrap()).await;
    let preview = send(&mut browser, &asked).await;
    assert!(
        preview.body.contains("Durable pause: what it would do"),
        "{}",
        preview.body
    );
    publish(&client, "orders", 1).await;
    wait_for(&billing, 2).await;

    let done = send(&mut browser, &preview).await;
    assert!(done.body.contains("Done: durable pause"), "{}", done.body);
    publish(&client, "orders", 3).await;
    wait_for(&other, 5).await;
    let page = browser.get(durable).await;
    assert!(
        page.body.contains("an operator paused it at "),
        "{}",
        page.body
    );
    assert!(
        page.body
            .contains("Resume it when the reason is gone: until then it gets no messages."),
        "{}",
        page.body
    );
    assert_eq!(link(&page, "Pause…"), None, "{}", page.body);
    let since =
        "SELECT to_char(paused_since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM stanby.durables
        WHERE paused_since IS NOT NULL";
    let [since] = &pair.group.tables().texts(since).await[..] else {
        panic!("one of them is paused");
    };
    assert!(page.body.contains(since), "{since}: {}", page.body);

    let asked = browser.get(&link(&page, "Resume…").unwrap()).await;
    let preview = send(&mut browser, &asked).await;
    assert!(
        preview.body.contains("Durable resume: what it would do"),
        "{}",
        preview.body
    );
    assert_eq!(
        billing.sequences(),
        [1, 2].into(),
        "it is paused until then"
    );

    let done = send(&mut browser, &preview).await;
    assert!(done.body.contains("Done: durable resume"), "{}", done.body);
    wait_for(&billing, 5).await;
    let page = browser.get(durable).await;
    assert!(link(&page, "Pause…").is_some(), "{}", page.body);
}

/// And its durable namesake does not.
#[tokio::test]
async fn a_queue_group_without_a_durable_name_is_on_the_page_of_its_channel_and_moves_by_its_buttons()
 {
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = with_users(folder.path()).await else {
        return;
    };
    let client = pair.group.client("worker").await;
    publish(&client, "orders", 3).await;
    let plain = client.subscribe("orders", "workers", "").await.unwrap();
    let durable = client.subscribe("orders", "workers", "kept").await.unwrap();
    for group in [&plain, &durable] {
        wait_for(group, 3).await;
    }
    let firsts = |of: &Subscription| {
        let received = of.received();
        received.iter().filter(|it| it.sequence == 1).count()
    };
    let mut browser = Browser::new(pair.standby.http_port);
    assert_eq!(browser.log_in("operator", PASSWORD).await, 303);

    let channel = browser.get("/console/channel?name=orders").await;
    assert!(link(&channel, "kept/workers").is_some(), "{}", channel.body);
    let all = browser.get("/console/durables").await;
    let place = link(&all, "workers").unwrap();
    assert_eq!(link(&channel, "workers").as_ref(), Some(&place));
    let page = browser.get(&place).await;
    assert!(
        page.body.contains("Queue group workers on "),
        "{}",
        page.body
    );
    for refused in ["Pause…", "Resume…"] {
        assert_eq!(link(&page, refused), None, "{}", page.body);
    }

    let place = link(&page, "Set to another place…").unwrap();
    let asked = browser.get(&format!("{place}&to=first")).await;
    let preview = send(&mut browser, &asked).await;
    let done = send(&mut browser, &preview).await;
    assert!(done.body.contains("Done: durable seek"), "{}", done.body);
    assert!(link(&done, "Back to workers").is_some(), "{}", done.body);
    wait_until(LIMIT, async || match firsts(&plain) {
        0 | 1 => Err("it is not delivered again".to_owned()),
        _ => Ok(()),
    })
    .await;
    assert_eq!(firsts(&durable), 1);
}
