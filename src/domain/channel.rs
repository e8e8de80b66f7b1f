//! A channel beside mail: where it leads, who subscribed to what, and when what waits for it becomes a message.
//!
//! The notifier gives each notice to every channel that is subscribed to it, and [`ChannelRule::plan`] decides about
//! those that wait: each of them ends in exactly one message, or is marked as below the channel's threshold.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use super::notice::{DigestRule, DigestWindow, NoticeKind, Plan, plan};
use super::quiet_times::QuietTimes;
use super::threshold::{CountedFailure, Judged, Threshold};

/// How a channel is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelType {
    /// Standard Webhooks, or any body by a template.
    Webhook,
    /// An incoming webhook of Slack, or of a chat that takes the same.
    Slack,
    /// A Workflows webhook of Microsoft Teams.
    Teams,
    /// PagerDuty Events API v2.
    Pagerduty,
}

crate::names!(ChannelType {
    Webhook = "webhook",
    Slack = "slack",
    Teams = "teams",
    Pagerduty = "pagerduty",
});

/// Everything about one channel.
#[derive(Debug, Clone)]
pub struct Channel {
    pub name: String,
    pub target: ChannelTarget,
    pub rule: ChannelRule,
    /// Whether it was made on the page, not in the settings.
    pub is_stored: bool,
}

/// Where messages go. Only the last part of it may be shown.
#[derive(Debug, Clone)]
pub struct ChannelTarget {
    pub channel_type: ChannelType,
    pub url: SecretString,
    /// Signs with each of them (Standard Webhooks).
    pub secrets: Vec<SecretString>,
    /// The integration key of PagerDuty.
    pub key: Option<SecretString>,
    /// The value of the header Authorization.
    pub authorization: Option<SecretString>,
    /// Template of the body; `None`: the payload of docs/channels.md.
    pub body: Option<String>,
    /// Whether it may be an address that is not on the public internet.
    pub allow_private: bool,
    /// Longest time for one message.
    pub patience: Duration,
    /// Largest body.
    pub max_bytes: usize,
}

/// What a channel is told, and when.
#[derive(Debug, Clone)]
pub struct ChannelRule {
    /// Whether it is used.
    pub enabled: bool,
    pub kinds: Vec<NoticeKind>,
    /// Empty: all shops.
    pub shops: Vec<String>,
    pub threshold: Option<Threshold>,
    pub digest: DigestRule,
    pub quiet: QuietTimes,
}

/// A notice that waits for a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingNotice {
    pub kind: NoticeKind,
    /// When it was written.
    pub at: Timestamp,
    /// Shop and number.
    pub order: String,
    /// Currency and total.
    pub money: Option<(String, String)>,
}

/// What a channel was told recently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChannelWindow {
    /// Messages about single failures; see [`plan`].
    pub digest: Option<DigestWindow>,
    /// Failures before that time are told without a look at the threshold.
    pub above_until: Option<Timestamp>,
}

/// What becomes of the notices that wait, by their places in the list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChannelPlan {
    /// One message for each.
    pub messages: Vec<Vec<usize>>,
    /// Never sent: below the threshold.
    pub below: Vec<usize>,
    /// Not before that time.
    pub later: Vec<(usize, Timestamp)>,
    pub window: ChannelWindow,
}

impl ChannelRule {
    /// Whether the channel is told about an event of that shop.
    pub fn takes(&self, kind: NoticeKind, shop: &str) -> bool {
        let is_its_shop = self.shops.is_empty() || self.shops.iter().any(|own| own == shop);
        self.enabled && kind.is_for_channels() && self.kinds.contains(&kind) && is_its_shop
    }

    /// Decides about the notices that wait, oldest first. In a quiet time nothing is sent. What came in one arrives
    /// together as one message. Otherwise failures are told by the threshold and the rule of digests, news about their
    /// types by that rule, and everything else at once.
    pub fn plan(
        &self,
        waiting: &[WaitingNotice],
        window: ChannelWindow,
        now: Timestamp,
    ) -> ChannelPlan {
        let mut made = ChannelPlan { window, ..ChannelPlan::default() };
        if let Some(until) = self.quiet.quiet_until(now) {
            made.later = (0..waiting.len()).map(|place| (place, until)).collect();
            return made;
        }
        let kind = |place: &usize| waiting[*place].kind;
        let (failures, others): (Vec<usize>, Vec<usize>) =
            (0..waiting.len()).partition(|place| kind(place).is_digestible());
        let (news, events): (Vec<usize>, Vec<usize>) =
            others.into_iter().partition(|place| kind(place).is_of_failure_type());
        let mut told = self.judge(waiting, &failures, &mut made, now);
        // Many new types of failures at once are as many as failures.
        told.extend(news);
        told.sort_unstable();
        let was_held = |place: &usize| self.quiet.contains(waiting[*place].at);
        if events.iter().chain(&told).any(was_held) {
            let mut all: Vec<usize> = events.into_iter().chain(told).collect();
            all.sort_unstable();
            made.messages = vec![all];
            // As after any digest: the window counts as full.
            let sent = self.digest.after;
            made.window.digest = Some(DigestWindow { started_at: now, sent });
            return made;
        }
        made.messages = events.into_iter().map(|place| vec![place]).collect();
        self.plan_digestible(told, &mut made, now);
        made
    }

    /// Those that are told; the others are noted in `made`.
    fn judge(
        &self,
        waiting: &[WaitingNotice],
        failures: &[usize],
        made: &mut ChannelPlan,
        now: Timestamp,
    ) -> Vec<usize> {
        let Some(threshold) = &self.threshold else { return failures.to_vec() };
        let counted: Vec<CountedFailure> = failures
            .iter()
            .map(|place| {
                let WaitingNotice { at, order, money, .. } = waiting[*place].clone();
                CountedFailure { at, order, money }
            })
            .collect();
        let (judged, above_until) = threshold.judge(&counted, made.window.above_until, now);
        made.window.above_until = above_until;
        let mut told = Vec::new();
        for (place, judged) in failures.iter().zip(judged) {
            match judged {
                Judged::Told => told.push(*place),
                Judged::Below => made.below.push(*place),
                Judged::Open(until) => made.later.push((*place, until)),
            }
        }
        told
    }

    fn plan_digestible(&self, told: Vec<usize>, made: &mut ChannelPlan, now: Timestamp) {
        if told.is_empty() {
            return;
        }
        let count = u32::try_from(told.len()).unwrap_or(u32::MAX);
        match plan(made.window.digest, count, self.digest, now) {
            Plan::Each { window } => {
                made.window.digest = Some(window);
                made.messages.extend(told.into_iter().map(|place| vec![place]));
            }
            Plan::Digest { window } => {
                made.window.digest = Some(window);
                made.messages.push(told);
            }
            Plan::Wait { until } => made.later.extend(told.into_iter().map(|place| (place, until))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        // A Thursday, 00:00 UTC.
        Timestamp::from_second(1_795_651_200 + minute * 60).unwrap()
    }

    fn rule(threshold: Option<&str>, hours: &[&str]) -> ChannelRule {
        let hours: Vec<String> = hours.iter().map(|text| (*text).to_owned()).collect();
        ChannelRule {
            enabled: true,
            kinds: NoticeKind::ALL.to_vec(),
            shops: Vec::new(),
            threshold: threshold.map(|text| text.parse().unwrap()),
            digest: DigestRule { after: 3, every: Duration::from_mins(5) },
            quiet: QuietTimes::parse(&hours, &[], TimeZone::UTC).unwrap(),
        }
    }

    fn notice(kind: NoticeKind, minute: i64, order: usize) -> WaitingNotice {
        let money = Some(("EUR".to_owned(), "10".to_owned()));
        WaitingNotice { kind, at: at(minute), order: order.to_string(), money }
    }

    #[test]
    fn what_came_in_the_night_arrives_in_the_morning_as_one_message() {
        use NoticeKind::{CircuitOpened, OrderFailed};
        let rule = rule(None, &["22:00-07:00"]);
        let night: Vec<WaitingNotice> = vec![
            notice(OrderFailed, 60, 1),
            notice(CircuitOpened, 61, 0),
            notice(OrderFailed, 62, 2),
        ];
        let held = rule.plan(&night, ChannelWindow::default(), at(63));
        assert_eq!(held.later, [(0, at(420)), (1, at(420)), (2, at(420))]);
        assert!(held.messages.is_empty());
        let morning = rule.plan(&night, held.window, at(420));
        assert_eq!(morning.messages, [vec![0, 1, 2]]);
        assert!(morning.later.is_empty());
    }

    #[test]
    fn by_day_events_are_told_at_once_and_many_failures_as_one_message() {
        use NoticeKind::{EnteredTwice, OrderFailed};
        let rule = rule(None, &[]);
        let mut waiting: Vec<WaitingNotice> =
            (0..5).map(|order| notice(OrderFailed, 600, order)).collect();
        waiting.push(notice(EnteredTwice, 600, 9));
        let made = rule.plan(&waiting, ChannelWindow::default(), at(600));
        assert_eq!(made.messages, [vec![5], vec![0, 1, 2, 3, 4]]);
        let next = rule.plan(&waiting[..1], made.window, at(601));
        assert_eq!(next.later, [(0, at(605))]);
    }

    #[test]
    fn a_channel_is_told_what_it_is_subscribed_to_and_never_what_is_a_customers() {
        let mut rule = rule(None, &[]);
        assert!(rule.takes(NoticeKind::OrderFailed, "de"));
        assert!(!rule.takes(NoticeKind::CustomerConfirmation, "de"));
        rule.shops = vec!["at".to_owned()];
        assert!(rule.takes(NoticeKind::OrderFailed, "at"));
        assert!(!rule.takes(NoticeKind::OrderFailed, "de"));
        rule.kinds = vec![NoticeKind::CircuitOpened];
        assert!(!rule.takes(NoticeKind::OrderFailed, "at"));
        rule.enabled = false;
        assert!(!rule.takes(NoticeKind::CircuitOpened, "at"));
    }

    proptest! {
        /// Whatever comes when: each notice is in one message, or below the threshold; nothing is sent in a quiet
        /// time; and nothing waits for ever.
        #[test]
        fn every_notice_is_told_once_and_never_in_a_quiet_time(
            arrivals in prop::collection::vec((0i64..600, 0usize..9, any::<bool>()), 1..40),
            has_threshold in any::<bool>(),
        ) {
            let threshold = has_threshold.then_some("3 orders or 50 EUR in 30m");
            let rule = rule(threshold, &["22:00-07:00", "Fri 12:00-13:00"]);
            let (mut now, mut window) = (0, ChannelWindow::default());
            let mut waiting: Vec<(usize, WaitingNotice)> = Vec::new();
            let (mut told, mut below) = (Vec::new(), Vec::new());
            let total = arrivals.len();
            let arrivals = arrivals.into_iter().map(Some).chain(std::iter::repeat_n(None, 200));
            for (id, arrival) in arrivals.enumerate() {
                now += arrival.map_or(10, |(pause, ..)| pause);
                if let Some((_, order, is_event)) = arrival {
                    let kind = if is_event { NoticeKind::CircuitOpened } else { NoticeKind::OrderFailed };
                    waiting.push((id, notice(kind, now, order)));
                }
                let notices: Vec<WaitingNotice> = waiting.iter().map(|(_, notice)| notice.clone()).collect();
                let made = rule.plan(&notices, window, at(now));
                window = made.window;
                prop_assert!(made.messages.is_empty() || !rule.quiet.contains(at(now)));
                prop_assert!(made.later.iter().all(|(_, until)| *until > at(now)));
                let places: Vec<usize> = made.messages.iter().flatten().chain(&made.below)
                    .chain(made.later.iter().map(|(place, _)| place)).copied().collect();
                prop_assert_eq!(places.len(), notices.len());
                prop_assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), notices.len());
                told.extend(made.messages.iter().flatten().map(|place| waiting[*place].0));
                below.extend(made.below.iter().map(|place| waiting[*place].0));
                let stays: BTreeSet<usize> = made.later.iter().map(|(place, _)| *place).collect();
                waiting = waiting.into_iter().enumerate().filter(|(place, _)| stays.contains(place)).map(|(_, one)| one).collect();
            }
            prop_assert!(waiting.is_empty());
            prop_assert_eq!(told.len() + below.len(), total);
            if !has_threshold { prop_assert!(below.is_empty()); }
        }

        /// A flood is a few messages: as many as windows have begun, and the single ones before.
        #[test]
        fn a_flood_is_a_few_messages(each_minute in 10usize..60, minutes in 1i64..40) {
            let rule = rule(None, &[]);
            let (mut window, mut waiting, mut messages) = (ChannelWindow::default(), Vec::new(), 0);
            for minute in 0..minutes {
                waiting.extend((0..each_minute).map(|order| notice(NoticeKind::OrderFailed, minute, order)));
                let made = rule.plan(&waiting, window, at(minute));
                window = made.window;
                messages += made.messages.len();
                if made.later.is_empty() { waiting.clear(); }
            }
            let windows = usize::try_from(minutes).unwrap() / 5 + 1;
            prop_assert!(messages <= windows + 3, "{messages} messages");
        }
    }
}
