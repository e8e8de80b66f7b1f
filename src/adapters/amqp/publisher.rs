//! Publishing: one task owns the confirm channel, about 500 confirms are outstanding.
//!
//! Sharing a confirm channel between threads swaps confirms; confirming one by one is fifteen times
//! slower (docs/facts/rabbitmq.md 1.2, 1.7). On any error the session is discarded and everything
//! unconfirmed is published again on the next one: duplicates are normal, losses are not.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt, TryFutureExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Event};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use crate::domain::outbound_messages::{Audience, Outgoing};
use crate::domain::text::one_line;
use crate::ports::broker::{BrokerError, PublishError};
use crate::ports::clock::Stopwatch;

use super::connection::{Address, PATIENCE, close, in_time, open_channel};

/// Confirms outstanding: more cost lapin a longer scan per confirm, fewer wait (docs/facts/rabbitmq.md 3).
const WINDOW: usize = 500;
/// Queued commands before callers wait.
const LINE: usize = 2_000;
const PERSISTENT: u8 = 2;
const TICK: Duration = Duration::from_millis(500);
/// Without a confirm for longer, something is wrong with the broker.
const SILENCE: Duration = Duration::from_secs(5);
/// How long an offered message waits for its place in the line.
const OFFER_PATIENCE: Duration = Duration::from_millis(100);
/// Between a session that was lost and the next: a broker that accepts a connection and then closes
/// it is not contacted again at once.
const PAUSE: Duration = Duration::from_millis(200);

/// The handle that callers hold.
#[derive(Clone)]
pub struct Publisher {
    line: mpsc::Sender<Command>,
    link: watch::Receiver<Link>,
}

/// What the publishing connection is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// There is none.
    Away,
    /// Messages are confirmed.
    Ready,
    /// The broker takes nothing while an alarm is in effect; everything waits.
    Blocked,
    /// The broker takes messages and confirms none of them.
    Silent,
}

struct Command {
    message: Outgoing,
    /// `None`: nobody waits for it.
    reply: Option<oneshot::Sender<Result<(), PublishError>>>,
}

impl Command {
    /// Whether the caller has timed out.
    fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Whether it is worth being sent in another session.
    fn may_wait(&self) -> bool {
        self.reply.is_some() && !self.is_abandoned()
    }

    fn answer(self, result: Result<(), PublishError>) {
        // A caller that has timed out does not receive any more.
        drop(self.reply.map(|reply| reply.send(result)));
    }

    /// The identity of a returned message; two with the same one had the same routing.
    fn name(&self) -> Name {
        let message = &self.message;
        (message.exchange.clone(), message.routing_key.clone(), message.message_id.clone())
    }

    fn answer_unroutable(self) {
        let (exchange, routing_key, _) = self.name();
        self.answer(Err(PublishError::Unroutable { exchange, routing_key }));
    }

    /// Keeps it for the next session, unless it is the message for which the broker closed the
    /// channel: it would close the next one as well, and all other messages would wait for ever
    /// (AMQP 0-9-1, 1.2: 404 and 403 name the exchange).
    fn put_off(self, why: &str, again: &mut VecDeque<Self>) {
        let is_meant = why.contains(&format!("exchange '{}'", self.message.exchange));
        if is_meant && why.contains("NOT_FOUND") {
            self.answer_unroutable();
        } else if is_meant && why.contains("ACCESS_REFUSED") {
            self.answer(Err(PublishError::Unavailable(one_line(why, 300))));
        } else {
            again.push_back(self);
        }
    }
}

/// Exchange, routing key and message id.
type Name = (String, String, String);

impl Publisher {
    /// A publisher, and the task that does the work; the caller lets it run under a supervisor.
    pub fn new(address: Address) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (line, commands) = mpsc::channel(LINE);
        let (link_tx, link) = watch::channel(Link::Away);
        (Self { line, link }, publish_all(address, commands, link_tx))
    }

    /// Returns when the broker has the message.
    pub async fn publish(&self, message: Outgoing, patience: Duration) -> Result<(), PublishError> {
        let (reply, answer) = oneshot::channel();
        let confirmed = async {
            self.line.send(Command { message, reply: Some(reply) }).await.ok()?;
            answer.await.ok()
        };
        let unavailable = |why: &str| PublishError::Unavailable(why.to_owned());
        match tokio::time::timeout(patience, confirmed).await {
            Ok(Some(result)) => result,
            Ok(None) => Err(unavailable("the publisher has stopped")),
            Err(_) => Err(unavailable(&format!("no confirm within {} ms", patience.as_millis()))),
        }
    }

    /// Publishes without waiting for the confirm; not at all if that is not possible now.
    pub async fn offer(&self, message: Outgoing) {
        if self.link() == Link::Ready {
            let sending = self.line.send(Command { message, reply: None });
            if tokio::time::timeout(OFFER_PATIENCE, sending).await.is_err() {
                tracing::debug!("broker.offer_dropped");
            }
        }
    }

    /// What the connection is good for now.
    pub fn link(&self) -> Link {
        *self.link.borrow()
    }
}

async fn publish_all(
    address: Address,
    mut commands: mpsc::Receiver<Command>,
    link: watch::Sender<Link>,
) {
    let mut again = VecDeque::new();
    let mut pause = Duration::ZERO;
    let mut begins_as = Link::Ready;
    loop {
        let connection = connect(&address, pause, &mut commands, &mut again).await;
        let Some(connection) = connection else { return };
        link.send_replace(begins_as);
        let end = match confirm_channel(&connection).await {
            Ok(channel) => {
                let window = Window::new(channel, &link);
                window.run(&connection, &mut commands, &mut again).await
            }
            Err(error) => End::Lost(error.to_string()),
        };
        // A connection that is made again confirms nothing yet.
        begins_as = match link.send_replace(Link::Away) {
            Link::Silent => Link::Silent,
            _ => Link::Ready,
        };
        close(&connection).await;
        match end {
            End::NoCallersLeft => return,
            End::Lost(why) => {
                tracing::warn!(why, unconfirmed = again.len(), "broker.publisher_lost");
                pause = PAUSE;
            }
        }
    }
}

/// Connects after a pause, and drops commands whose callers have timed out; `None` if no publisher
/// is left.
async fn connect(
    address: &Address,
    pause: Duration,
    commands: &mut mpsc::Receiver<Command>,
    again: &mut VecDeque<Command>,
) -> Option<Connection> {
    let connecting = async {
        tokio::time::sleep(pause).await;
        address.connect_again("publisher").await
    };
    tokio::pin!(connecting);
    loop {
        tokio::select! {
            connection = &mut connecting => return Some(connection),
            command = commands.recv(), if again.len() < LINE => again.push_back(command?),
            () = tokio::time::sleep(TICK) => again.retain(Command::may_wait),
        }
    }
}

async fn confirm_channel(connection: &Connection) -> Result<Channel, BrokerError> {
    let channel = open_channel(connection).await?;
    let select = channel.confirm_select(ConfirmSelectOptions::default());
    in_time("asking for publisher confirms", select).await?;
    Ok(channel)
}

enum End {
    NoCallersLeft,
    Lost(String),
}

type Outcome = Result<Confirmation, String>;

/// A message that waits for its confirm.
struct Pending {
    command: Option<Command>,
    confirm: BoxFuture<'static, Outcome>,
}

impl Future for Pending {
    type Output = (Command, Outcome);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(self.confirm.poll_unpin(context));
        let command = self.command.take().expect("it is ready once");
        Poll::Ready((command, outcome))
    }
}

/// The messages on one channel that wait for their confirm.
struct Window<'a> {
    channel: Channel,
    in_flight: FuturesUnordered<Pending>,
    /// Returned messages whose own confirm has not been seen yet.
    returned: HashMap<Name, usize>,
    link: &'a watch::Sender<Link>,
    /// Since the last confirm, or since there was something to confirm.
    waiting: Stopwatch,
}

impl<'a> Window<'a> {
    fn new(channel: Channel, link: &'a watch::Sender<Link>) -> Self {
        Self {
            channel,
            in_flight: FuturesUnordered::new(),
            returned: HashMap::new(),
            link,
            waiting: Stopwatch::start(),
        }
    }

    fn is_blocked(&self) -> bool {
        *self.link.borrow() == Link::Blocked
    }

    /// Notes what the connection is good for, and tells it once.
    fn set(&self, now: Link) {
        let before = self.link.send_replace(now);
        if before != now && now == Link::Silent {
            let unconfirmed = self.in_flight.len();
            tracing::warn!(unconfirmed, "broker.confirms_nothing");
        } else if before == Link::Silent && now == Link::Ready {
            tracing::info!("broker.confirms_again");
        }
    }

    /// Whether confirms come; an alarm of the broker may last as long as it does.
    fn look_at_confirms(&mut self) -> Result<(), String> {
        let is_idle = self.in_flight.is_empty();
        let link = *self.link.borrow();
        match (link, self.waiting.elapsed()) {
            (Link::Blocked, _) => self.waiting = Stopwatch::start(),
            (_, waiting) if !is_idle && waiting > PATIENCE => {
                return Err(format!("no confirm within {} s", PATIENCE.as_secs()));
            }
            (_, waiting) if !is_idle && waiting > SILENCE => self.set(Link::Silent),
            _ if is_idle => self.set(Link::Ready),
            _ => {}
        }
        Ok(())
    }

    async fn run(
        mut self,
        connection: &Connection,
        commands: &mut mpsc::Receiver<Command>,
        again: &mut VecDeque<Command>,
    ) -> End {
        let mut events = Box::pin(connection.events_listener());
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut open = true;
        loop {
            let may_send = !self.is_blocked() && self.in_flight.len() < WINDOW;
            let step = tokio::select! {
                biased;
                Some(event) = events.next() => self.notice(event),
                Some(first) = self.in_flight.next() => self.settle(first, again),
                _ = ticks.tick() => {
                    again.retain(Command::may_wait);
                    self.look_at_confirms()
                }
                command = next_command(commands, again), if may_send && open => match command {
                    Some(command) => self.send(command, again).await,
                    None => { open = false; Ok(()) }
                },
            };
            if let Err(why) = step {
                self.give_up(again).await;
                return End::Lost(why);
            }
            if !open && self.in_flight.is_empty() {
                return End::NoCallersLeft;
            }
        }
    }

    fn notice(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::ConnectionBlocked(why) => {
                tracing::warn!(why, "broker.blocked");
                self.set(Link::Blocked);
            }
            Event::ConnectionUnblocked => {
                tracing::info!("broker.unblocked");
                self.waiting = Stopwatch::start();
                self.set(Link::Ready);
            }
            Event::Error(error) => return Err(error.to_string()),
            _ => {}
        }
        Ok(())
    }

    async fn send(
        &mut self,
        command: Command,
        again: &mut VecDeque<Command>,
    ) -> Result<(), String> {
        if command.is_abandoned() {
            return Ok(());
        }
        let message = &command.message;
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(short(&message.message_id))
            .with_headers(headers(message));
        let options = BasicPublishOptions {
            mandatory: message.audience == Audience::Required,
            ..Default::default()
        };
        let publish = self.channel.basic_publish(
            message.exchange.as_str().into(),
            message.routing_key.as_str().into(),
            options,
            &message.body,
            properties,
        );
        match in_time("publishing", publish).await {
            Ok(confirm) => {
                if self.in_flight.is_empty() {
                    self.waiting = Stopwatch::start();
                }
                let confirm = confirm.map_err(|error| error.to_string());
                self.in_flight.push(Pending { command: Some(command), confirm: confirm.boxed() });
                Ok(())
            }
            Err(error) => {
                again.push_back(command);
                Err(error.to_string())
            }
        }
    }

    /// Answers everybody whose confirm has come.
    fn settle(
        &mut self,
        first: (Command, Outcome),
        again: &mut VecDeque<Command>,
    ) -> Result<(), String> {
        self.waiting = Stopwatch::start();
        if *self.link.borrow() == Link::Silent {
            self.set(Link::Ready);
        }
        let mut lost = None;
        for (command, outcome) in self.collect(first) {
            match outcome {
                Ok(Confirmation::Ack(_)) if self.was_returned(&command) => {
                    command.answer_unroutable();
                }
                Ok(Confirmation::Ack(_)) => command.answer(Ok(())),
                Ok(Confirmation::Nack(_)) => command.answer(Err(PublishError::Refused)),
                Ok(Confirmation::NotRequested) => {
                    lost = Some("the channel does not confirm".to_owned());
                    again.push_back(command);
                }
                Err(error) => {
                    command.put_off(&error, again);
                    lost = Some(error);
                }
            }
        }
        lost.map_or(Ok(()), Err)
    }

    /// Everything that is confirmed by now, with every return that concerns any of it noted.
    ///
    /// lapin hands a returned message to whichever confirm it completes next (docs/facts/rabbitmq.md 1.3). The
    /// broker sends a return before its confirm, and confirms of returned messages in the order in
    /// which they were published. So the return of a message is handed to a confirm of an earlier
    /// frame or of the same one; but one frame may complete many, in no order, on another thread
    /// while we look. Therefore we look again until nothing was added since lapin was seen outside
    /// of that work.
    fn collect(&mut self, first: (Command, Outcome)) -> Vec<(Command, Outcome)> {
        let mut ready = vec![first];
        loop {
            let known = ready.len();
            self.let_lapin_finish_a_frame();
            while let Some(Some(next)) = self.in_flight.next().now_or_never() {
                ready.push(next);
            }
            if ready.len() == known {
                break;
            }
        }
        for (_, outcome) in &mut ready {
            if let Ok(Confirmation::Ack(message) | Confirmation::Nack(message)) = outcome
                && let Some(message) = message.take()
            {
                let properties = &message.delivery.properties;
                let id = properties.message_id().as_ref().map(ToString::to_string);
                let (exchange, key) = (&message.delivery.exchange, &message.delivery.routing_key);
                let name = (exchange.to_string(), key.to_string(), id.unwrap_or_default());
                *self.returned.entry(name).or_default() += 1;
            }
        }
        ready
    }

    /// Briefly takes the lock under which lapin completes all confirms of one frame: the first poll
    /// of this call has no other relevant effect.
    fn let_lapin_finish_a_frame(&self) {
        drop(self.channel.wait_for_confirms().now_or_never());
    }

    /// Whether a return is noted for it; it is crossed out, so that the same message published once
    /// more, when its queue is there, is not taken for it.
    fn was_returned(&mut self, command: &Command) -> bool {
        let name = command.name();
        let Some(count) = self.returned.get_mut(&name) else { return false };
        *count -= 1;
        if *count == 0 {
            self.returned.remove(&name);
        }
        true
    }

    /// Keeps unconfirmed messages for the next session. All outstanding confirms fail at once when
    /// the connection is lost (docs/facts/rabbitmq.md 3); those that do not, because the connection
    /// is frozen, are not waited for.
    async fn give_up(self, again: &mut VecDeque<Command>) {
        let Self { channel, mut in_flight, .. } = self;
        drop(channel);
        let ending = async {
            // A confirm that comes now may belong to a returned message: twice is normal.
            while let Some((command, outcome)) = in_flight.next().await {
                let why = outcome.err().unwrap_or_default();
                command.put_off(&why, again);
            }
        };
        drop(tokio::time::timeout(TICK, ending).await);
        again.extend(in_flight.into_iter().filter_map(|pending| pending.command));
    }
}

async fn next_command(
    commands: &mut mpsc::Receiver<Command>,
    again: &mut VecDeque<Command>,
) -> Option<Command> {
    match again.pop_front() {
        Some(command) => Some(command),
        None => commands.recv().await,
    }
}

fn headers(message: &Outgoing) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in &message.headers {
        table.insert(short(name), AMQPValue::LongString(value.as_str().into()));
    }
    table
}

/// AMQP short strings hold at most 255 bytes (0-9-1, 4.2.5.3).
fn short(text: &str) -> lapin::types::ShortString {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}
