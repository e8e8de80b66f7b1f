//! Composing messages: what happened as facts, without the form of any channel.
//!
//! A webhook gets every failed order, and a digest that is too large for it is split. The other channels are read by
//! people: they get the numbers, the newest orders, and a link to the page that lists all. PagerDuty gets a message for
//! each incident, because it resolves them one by one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::channel::{Channel, ChannelType};
use crate::domain::failure::ErrorClass;
use crate::domain::fingerprint::fingerprint;
use crate::domain::money::{Purse, Sum};
use crate::domain::notice::NoticeKind;
use crate::domain::text::{one_line, path_segment};
use crate::ports::channels::{
    ChannelComposer, EventItem, FailedOrder, FailureDigest, FailureType, Incident, MessageContent,
    NewMessage, Severity,
};
use crate::ports::mail::NoticeDetail;
use crate::ports::notices::Notice;

use super::payload::WebhookPayload;
use super::plain_text::reason;

/// Longest piece of order data, in characters.
const MAX_FACT: usize = 200;
/// Longest text of an ERP.
const MAX_MESSAGE: usize = 500;
/// Orders that a message for people lists.
const MAX_NEWEST: usize = 50;
/// Types of failures that a message lists.
const MAX_TYPES: usize = 20;
/// Incidents that PagerDuty gets from one digest; the rarest types share the last one.
const MAX_INCIDENTS: usize = 20;

/// Composes messages.
pub struct MessageComposer {
    public_url: String,
}

impl MessageComposer {
    /// Links lead to `public_url`.
    pub fn new(public_url: &str) -> Self {
        Self { public_url: public_url.trim_end_matches('/').to_owned() }
    }

    /// One message, or as many as it takes for each to fit.
    fn fitting(
        &self,
        channel: &Channel,
        notices: &[Notice],
        now: Timestamp,
        ids: &dyn Fn() -> Uuid,
    ) -> Vec<NewMessage> {
        let id = ids();
        let content = self.content(channel, id, notices);
        let is_too_large = || WebhookPayload::of(&content).body().len() > channel.target.max_bytes;
        if lists_all(channel) && notices.len() > 1 && is_too_large() {
            return self.halves(channel, notices, now, ids);
        }
        let notices = notices.iter().map(|notice| notice.id.clone()).collect();
        vec![NewMessage { id, content, notices, now }]
    }

    fn halves(
        &self,
        channel: &Channel,
        notices: &[Notice],
        now: Timestamp,
        ids: &dyn Fn() -> Uuid,
    ) -> Vec<NewMessage> {
        let (first, second) = notices.split_at(notices.len() / 2);
        let mut messages = self.fitting(channel, first, now, ids);
        messages.extend(self.fitting(channel, second, now, ids));
        messages
    }

    fn content(&self, channel: &Channel, id: Uuid, notices: &[Notice]) -> MessageContent {
        let (failed, other): (Vec<&Notice>, Vec<&Notice>) =
            notices.iter().partition(|notice| notice.kind.is_digestible());
        let link = format!("{}/channel-messages/{id}", self.public_url);
        let newest = if lists_all(channel) { usize::MAX } else { MAX_NEWEST };
        let failures = (!failed.is_empty()).then(|| self.failures(&failed, newest));
        let events: Vec<EventItem> = other.iter().map(|notice| self.event(notice)).collect();
        let mut kinds: Vec<&str> = notices.iter().map(|notice| notice.kind.as_str()).collect();
        kinds.dedup();
        let occurred_at = notices.iter().map(|notice| notice.detail.occurred_at).max();
        MessageContent {
            kind: if kinds.len() == 1 { kinds[0] } else { "digest" }.to_owned(),
            severity: notices.iter().map(severity).max().unwrap_or(Severity::Info),
            title: title(&events, failures.as_ref()),
            link: match notices {
                [one] => self.link_of(&one.detail),
                _ => link,
            },
            incident: self.incident(channel, notices),
            events,
            failures,
            occurred_at: occurred_at.unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }

    fn failures(&self, notices: &[&Notice], newest: usize) -> FailureDigest {
        let mut types = BTreeMap::<String, (FailureType, Purse)>::new();
        let mut all = Purse::default();
        for notice in notices {
            let detail = &notice.detail;
            let group = group_of(detail);
            let (kind, purse) = types.entry(group.clone()).or_insert_with(|| {
                let kind = FailureType {
                    class: fact(detail.class.as_deref()),
                    code: fact(detail.code.as_deref()),
                    message: one_line(detail.message.as_deref().unwrap_or_default(), MAX_MESSAGE),
                    count: 0,
                    money: Vec::new(),
                    link: format!("{}/groups/{group}", self.public_url),
                };
                (kind, Purse::default())
            });
            kind.count += 1;
            if let (Some(currency), Some(total)) = (&detail.currency, &detail.total) {
                purse.add(currency, Sum::of_total(total));
                all.add(currency, Sum::of_total(total));
            }
        }
        let mut types: Vec<FailureType> = types
            .into_values()
            .map(|(kind, purse)| FailureType { money: purse.into_money(), ..kind })
            .collect();
        types.sort_by_key(|kind| std::cmp::Reverse(kind.count));
        let more_types = types.len().saturating_sub(MAX_TYPES);
        types.truncate(MAX_TYPES);
        let mut orders: Vec<&NoticeDetail> = notices.iter().map(|notice| &notice.detail).collect();
        orders.sort_by_key(|detail| std::cmp::Reverse(detail.occurred_at));
        let times = || notices.iter().map(|notice| notice.detail.occurred_at);
        FailureDigest {
            count: notices.len(),
            money: all.into_money(),
            first_at: times().min().unwrap_or(Timestamp::UNIX_EPOCH),
            last_at: times().max().unwrap_or(Timestamp::UNIX_EPOCH),
            types,
            more_types,
            more_orders: orders.len().saturating_sub(newest),
            orders: orders.into_iter().take(newest).map(|detail| self.order(detail)).collect(),
        }
    }

    fn order(&self, detail: &NoticeDetail) -> FailedOrder {
        let text = |part: &Option<String>| part.as_deref().map(|text| one_line(text, MAX_FACT));
        FailedOrder {
            shop: one_line(&detail.shop, MAX_FACT),
            order_id: fact(detail.order_id.as_deref()),
            currency: text(&detail.currency),
            total: text(&detail.total),
            attempt: detail.attempt,
            fail_count: detail.fail_count,
            max_count: detail.max_count,
            phase: detail.phase.clone(),
            class: text(&detail.class),
            code: text(&detail.code),
            message: detail.message.as_deref().map(|text| one_line(text, MAX_MESSAGE)),
            next_attempt_at: detail.next_attempt_at,
            occurred_at: detail.occurred_at,
            link: self.link_of(detail),
        }
    }

    fn event(&self, notice: &Notice) -> EventItem {
        let detail = &notice.detail;
        EventItem {
            kind: notice.kind.as_str().to_owned(),
            shop: one_line(&detail.shop, MAX_FACT),
            order_id: detail.order_id.as_deref().map(|text| one_line(text, MAX_FACT)),
            erp: detail.erp.as_deref().map(|text| one_line(text, MAX_FACT)),
            text: event_text(notice),
            link: self.link_of(detail),
            occurred_at: detail.occurred_at,
        }
    }

    fn link_of(&self, detail: &NoticeDetail) -> String {
        match &detail.order_id {
            Some(order_id) => {
                let (shop, order_id) = (path_segment(&detail.shop), path_segment(order_id));
                format!("{}/orders/{shop}/{order_id}", self.public_url)
            }
            None => {
                match detail.trouble.as_ref().and_then(|trouble| trouble.fingerprint.as_ref()) {
                    Some(group) => format!("{}/groups/{group}", self.public_url),
                    None => self.public_url.clone(),
                }
            }
        }
    }

    /// What a message is about, if that begins and ends. Only PagerDuty is told about failures as incidents: elsewhere
    /// they need not wait for each other.
    fn incident(&self, channel: &Channel, notices: &[Notice]) -> Option<Incident> {
        use NoticeKind as K;
        let first = notices.first()?;
        let is_pagerduty = channel.target.channel_type == ChannelType::Pagerduty;
        let of_type = |detail: &NoticeDetail| {
            let known = detail.trouble.as_ref().and_then(|trouble| trouble.fingerprint.clone());
            format!("failures/{}", known.unwrap_or_else(|| group_of(detail)))
        };
        let name = match first.kind {
            K::OrderFailed if is_pagerduty => {
                let groups: Vec<String> =
                    notices.iter().map(|notice| group_of(&notice.detail)).collect();
                let is_one = groups.iter().all(|group| *group == groups[0]);
                format!("failures/{}", if is_one { &groups[0] } else { "other" })
            }
            _ if notices.len() > 1 => return None,
            K::CircuitOpened | K::CircuitClosed | K::CircuitUnstable => {
                format!("circuit/{}", first.detail.erp.as_deref().unwrap_or_default())
            }
            kind if kind.is_of_failure_type() => of_type(&first.detail),
            _ => return None,
        };
        let installation = self.public_url.split_once("://").map_or("", |(_, host)| host);
        let is_over = matches!(first.kind, K::CircuitClosed | K::FailureTypeEnded);
        Some(Incident { key: format!("order-relay/{installation}/{name}"), is_over })
    }
}

/// Whether a channel gets every failed order.
fn lists_all(channel: &Channel) -> bool {
    channel.target.channel_type == ChannelType::Webhook && channel.target.body.is_none()
}

/// The type of a failure.
fn group_of(detail: &NoticeDetail) -> String {
    let class = detail.class.as_deref().and_then(ErrorClass::from_name);
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    let class = class.unwrap_or(ErrorClass::Internal);
    fingerprint(class, &part(&detail.code), &part(&detail.message))
}

fn fact(text: Option<&str>) -> String {
    one_line(text.unwrap_or_default(), MAX_FACT)
}

fn severity(notice: &Notice) -> Severity {
    use NoticeKind as K;
    match notice.kind {
        K::CircuitOpened | K::CircuitUnstable => Severity::Critical,
        K::EnteredTwice | K::FailureTypeNew | K::FailureTypeBack | K::FailureTypeUnstable => {
            Severity::Error
        }
        K::OrderFailed if notice.detail.phase == "retrying" => Severity::Warning,
        K::OrderFailed => Severity::Error,
        K::CircuitClosed | K::FailureTypeEnded | K::CustomerConfirmation => Severity::Info,
    }
}

fn event_text(notice: &Notice) -> String {
    use NoticeKind as K;
    let detail = &notice.detail;
    let part = |text: &Option<String>| fact(text.as_deref());
    let order = format!("{}/{}", one_line(&detail.shop, MAX_FACT), part(&detail.order_id));
    let erp = part(&detail.erp);
    match notice.kind {
        K::CircuitOpened => {
            let why = one_line(detail.message.as_deref().unwrap_or_default(), MAX_MESSAGE);
            format!("The ERP {erp} is not usable, the work pauses: {why}")
        }
        K::CircuitClosed => format!("The ERP {erp} is back{}", outage_text(detail)),
        K::CircuitUnstable => {
            format!("The ERP {erp} becomes unavailable again and again{}", times_text(detail))
        }
        K::EnteredTwice => format!(
            "Order {order} is in the ERP twice: {} and {}",
            part(&detail.first_erp_order_id),
            part(&detail.erp_order_id)
        ),
        K::FailureTypeNew => format!("A new type of failures: {}", type_text(detail)),
        K::FailureTypeBack => format!("A type of failures is back: {}", type_text(detail)),
        K::FailureTypeUnstable => {
            let times = times_text(detail);
            format!("A type of failures comes and goes{times}: {}", type_text(detail))
        }
        K::FailureTypeEnded => format!("A type of failures has ended: {}", type_text(detail)),
        K::OrderFailed | K::CustomerConfirmation => format!("Order {order}"),
    }
}

/// `: it was away for 42 min, 1310 orders waited, all are through, 3 need a decision`
fn outage_text(detail: &NoticeDetail) -> String {
    let Some(trouble) = &detail.trouble else { return String::new() };
    let lasted = length(trouble.lasted_ms);
    let waiting = match (trouble.waited, trouble.waiting) {
        (0, _) => "no order waited".to_owned(),
        (1, 0) => "1 order waited and is through".to_owned(),
        (waited, 0) => format!("{waited} orders waited, all are through"),
        (waited, waiting) => format!("{waited} orders waited, {waiting} of them still"),
    };
    let undecided = match trouble.undecided {
        0 => String::new(),
        1 => ", 1 needs a decision".to_owned(),
        undecided => format!(", {undecided} need a decision"),
    };
    format!(": it was away for {lasted}, {waiting}{undecided}")
}

/// `: 5 times`
fn times_text(detail: &NoticeDetail) -> String {
    let times = detail.trouble.as_ref().map_or(0, |trouble| trouble.recent_times);
    if times == 0 { String::new() } else { format!(" ({times} times lately)") }
}

/// What a type of failures is, and how many orders are lost because of it.
fn type_text(detail: &NoticeDetail) -> String {
    let message = one_line(detail.message.as_deref().unwrap_or_default(), MAX_MESSAGE);
    let (class, code) = (fact(detail.class.as_deref()), fact(detail.code.as_deref()));
    let lost = detail.trouble.as_ref().map_or(0, |trouble| trouble.lost);
    let what = reason(&class, &code, &message);
    match lost {
        0 => what,
        1 => format!("{what} (1 order is lost)"),
        lost => format!("{what} ({lost} orders are lost)"),
    }
}

/// A length of time for people.
fn length(ms: u64) -> String {
    let seconds = ms.div_ceil(1_000);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

fn title(events: &[EventItem], failures: Option<&FailureDigest>) -> String {
    let of_failures = failures.map(|failures| match failures.orders.as_slice() {
        [one] if failures.count == 1 => {
            format!("Order {}/{} was not transferred to the ERP", one.shop, one.order_id)
        }
        _ => format!("{} orders were not transferred to the ERP", failures.count),
    });
    let of_events = match events {
        [] => None,
        [one] => Some(one.text.clone()),
        _ => Some(format!("{} other events", events.len())),
    };
    let parts: Vec<String> = of_failures.into_iter().chain(of_events).collect();
    one_line(&parts.join("; "), MAX_FACT)
}

impl ChannelComposer for MessageComposer {
    fn compose(
        &self,
        channel: &Channel,
        notices: &[Notice],
        now: Timestamp,
        ids: &dyn Fn() -> Uuid,
    ) -> Vec<NewMessage> {
        let groups = match channel.target.channel_type {
            ChannelType::Pagerduty => by_incident(notices),
            _ => vec![notices.to_vec()],
        };
        groups.iter().flat_map(|group| self.fitting(channel, group, now, ids)).collect()
    }

    fn parts(
        &self,
        channel: &Channel,
        notices: &[Notice],
        now: Timestamp,
        ids: &dyn Fn() -> Uuid,
    ) -> Vec<NewMessage> {
        if notices.len() < 2 || !lists_all(channel) {
            return Vec::new();
        }
        self.halves(channel, notices, now, ids)
    }

    fn test(&self, channel: &Channel, id: Uuid, now: Timestamp) -> NewMessage {
        let content = MessageContent {
            kind: "test".to_owned(),
            severity: Severity::Info,
            title: format!("This is a test of the channel {} of order-relay", channel.name),
            link: format!("{}/channels", self.public_url),
            incident: None,
            events: Vec::new(),
            failures: None,
            occurred_at: now,
        };
        NewMessage { id, content, notices: Vec::new(), now }
    }
}

/// Events one by one, and failures by their type; the rarest types share the last message.
fn by_incident(notices: &[Notice]) -> Vec<Vec<Notice>> {
    let mut types = BTreeMap::<String, Vec<Notice>>::new();
    let mut groups = Vec::new();
    for notice in notices {
        match notice.kind.is_digestible() {
            true => types.entry(group_of(&notice.detail)).or_default().push(notice.clone()),
            false => groups.push(vec![notice.clone()]),
        }
    }
    let mut types: Vec<Vec<Notice>> = types.into_values().collect();
    types.sort_by_key(|notices| std::cmp::Reverse(notices.len()));
    let rest = types.split_off(types.len().min(MAX_INCIDENTS - 1));
    groups.extend(types);
    let rest: Vec<Notice> = rest.into_iter().flatten().collect();
    groups.extend((!rest.is_empty()).then_some(rest));
    groups
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::samples::{channel, composed, failure};
    use super::*;
    use crate::ports::mail::Trouble;

    fn named(messages: &[NewMessage]) -> Vec<String> {
        let all = messages.iter().filter_map(|message| message.content.failures.as_ref());
        all.flat_map(|failures| failures.orders.iter().map(|order| order.order_id.clone()))
            .collect()
    }

    #[test]
    fn a_digest_for_a_webhook_names_every_order_once_however_small_its_messages_are() {
        let notices: Vec<Notice> = (0..1_000).map(|number| failure(number, "same")).collect();
        let mut channel = channel(ChannelType::Webhook);
        channel.target.max_bytes = 64 * 1024;
        let messages = composed(&channel, &notices);
        let named = named(&messages);
        assert_eq!((named.len(), named.iter().collect::<BTreeSet<_>>().len()), (1_000, 1_000));
        for message in &messages {
            assert!(WebhookPayload::of(&message.content).body().len() <= 64 * 1024);
        }
        assert!(messages.len() <= 16, "{}", messages.len());
    }

    #[test]
    fn a_digest_for_people_has_numbers_money_and_the_newest_orders() {
        let notices: Vec<Notice> = (0..10_000).map(|number| failure(number, "same")).collect();
        let messages = composed(&channel(ChannelType::Slack), &notices);
        assert_eq!(messages.len(), 1);
        let failures = messages[0].content.failures.as_ref().unwrap();
        assert_eq!(
            (failures.count, failures.orders.len(), failures.more_orders),
            (10_000, 50, 9_950)
        );
        assert_eq!(failures.money[0].amount, "100000.00");
        assert_eq!(failures.orders[0].order_id, "9999");
        assert_eq!(messages[0].notices.len(), 10_000);
        assert!(messages[0].content.link.ends_with(&messages[0].id.to_string()));
    }

    #[test]
    fn the_end_of_an_outage_says_how_long_it_was_and_resolves_what_began() {
        let outage = |kind, trouble| {
            let detail = NoticeDetail::of_erp("default", "de", "away", Timestamp::UNIX_EPOCH);
            let detail = NoticeDetail { trouble, ..detail };
            Notice { id: String::new(), kind, detail, created_at: Timestamp::UNIX_EPOCH }
        };
        let trouble =
            Trouble { lasted_ms: 42 * 60_000, waited: 1_310, undecided: 3, ..Trouble::default() };
        let slack = channel(ChannelType::Slack);
        let began = composed(&slack, &[outage(NoticeKind::CircuitOpened, None)]).remove(0).content;
        let over = outage(NoticeKind::CircuitClosed, Some(trouble));
        let over = composed(&slack, &[over]).remove(0).content;
        assert_eq!(
            over.title,
            "The ERP default is back: it was away for 42 min, 1310 orders waited, all are through, \
             3 need a decision"
        );
        let (began, over) = (began.incident.unwrap(), over.incident.unwrap());
        assert_eq!((began.is_over, over.is_over), (false, true));
        assert_eq!(began.key, over.key);
    }

    #[test]
    fn what_came_in_a_quiet_time_is_one_message_of_several_kinds_and_at_pagerduty_one_each() {
        let detail = NoticeDetail::of_erp("default", "de", "5 of 6 failed", Timestamp::UNIX_EPOCH);
        let kind = NoticeKind::CircuitOpened;
        let opened =
            Notice { id: "circuit".to_owned(), kind, detail, created_at: Timestamp::UNIX_EPOCH };
        let night = [failure(1, "same"), opened, failure(2, "same")];
        let messages = composed(&channel(ChannelType::Webhook), &night);
        assert_eq!(messages.len(), 1);
        let content = &messages[0].content;
        assert_eq!((&*content.kind, content.severity), ("digest", Severity::Critical));
        assert_eq!((content.events.len(), named(&messages).len()), (1, 2));
        assert!(content.title.starts_with("2 orders were not transferred to the ERP; The ERP"));
        assert!(content.incident.is_none());
        let alerts = composed(&channel(ChannelType::Pagerduty), &night);
        let count = |message: &NewMessage| message.notices.len();
        assert_eq!(alerts.iter().map(count).collect::<Vec<_>>(), [1, 2]);
        assert!(alerts.iter().all(|message| message.content.incident.is_some()));
    }

    #[test]
    fn pagerduty_gets_one_incident_for_each_type_of_failure_and_not_too_many() {
        let names: Vec<String> =
            ('a'..='z').map(|letter| format!("{letter}{letter}{letter}")).collect();
        let notices: Vec<Notice> =
            (0..300).map(|number| failure(number, &names[number % names.len()])).collect();
        let messages = composed(&channel(ChannelType::Pagerduty), &notices);
        assert_eq!(messages.len(), MAX_INCIDENTS);
        let keys: BTreeSet<&str> = messages
            .iter()
            .map(|message| message.content.incident.as_ref().unwrap().key.as_str())
            .collect();
        assert_eq!(keys.len(), MAX_INCIDENTS);
        assert_eq!(messages.iter().map(|message| message.notices.len()).sum::<usize>(), 300);
    }
}
