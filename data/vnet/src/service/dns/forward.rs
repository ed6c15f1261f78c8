//! Questions that went on to the host's resolvers, until they are answered or given up.
//!
//! Each goes out with an id of its own, drawn at random, from a socket of its own, whose port the kernel draws
//! (RFC 5452): whoever sends the question ([`Question::token`] names its socket) takes answers from that socket alone,
//! connected to the resolver that was asked. An answer must have the id and repeat the question; what does not is
//! dropped, and the wait goes on.
//!
//! Invariant: bounded, in all and for each port. A question beyond that is answered SERVFAIL at once.

use super::message::{self, Answer, Name, Query, Response, rcode, udp_limit};
use crate::engine::verdict::PortIndex;
use crate::service::wire::Envelope;
use base::random::Random;
use std::collections::{BTreeMap, BTreeSet};

/// Of all ports.
pub const WAITING_MAX: usize = 4096;
/// Of one port, so that no guest takes the place of all others.
pub const WAITING_PER_PORT_MAX: u32 = 256;
/// After which the next resolver is asked.
const TRY_NS: u64 = 1_500_000_000;
const TRIES_MAX: u8 = 3;

/// How a question came, and so goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A stream, each message behind its length in two bytes (RFC 1035, section 4.2.2).
    Tcp,
}

/// A question for one of the host's resolvers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names the socket to be opened for it: one that is new, with a port that nobody can guess.
    pub token: u64,
    /// Which of the host's resolvers to ask: this, modulo their number.
    pub resolver: u8,
    /// How.
    pub transport: Transport,
    /// The message.
    pub message: Vec<u8>,
}

/// Who is to get the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Client {
    /// By UDP, in this envelope.
    Udp(Envelope),
    /// On this connection of the port.
    Tcp(u64),
}

impl Client {
    /// How long its answer may be.
    pub fn answer_bytes_max(&self, query: &Query) -> usize {
        match self {
            Client::Udp(_) => udp_limit(query.edns),
            Client::Tcp(_) => usize::from(u16::MAX),
        }
    }
}

/// A client's query that cannot be answered here.
#[derive(Debug)]
pub(in crate::service) struct Asked {
    /// Whose.
    pub port: PortIndex,
    /// How it came.
    pub client: Client,
    /// The query.
    pub query: Query,
    /// CNAMEs that lead from its name to the one that is asked for.
    pub chain: Vec<Answer>,
}

impl Asked {
    fn answer(&self, response: &Response) -> Vec<u8> {
        response.write(&self.query, self.client.answer_bytes_max(&self.query))
    }

    fn failure(&self) -> Step {
        let response = Response { code: rcode::SERVFAIL, ..Response::default() };
        Step::Answer(self.port, self.client, self.answer(&response))
    }
}

#[derive(Debug)]
struct Waiting {
    asked: Asked,
    /// What is asked, which is not what the client asked if there is a chain.
    question: message::Question,
    id: u16,
    tries: u8,
    until_ns: u64,
}

/// What is to be done about a question.
#[derive(Debug)]
pub(in crate::service) enum Step {
    /// Ask (again, on a new socket).
    Ask(Question),
    /// The token's socket is of no more use.
    Forget(u64),
    /// Answer the client.
    Answer(PortIndex, Client, Vec<u8>),
}

/// The questions under way.
#[derive(Debug, Default)]
pub(in crate::service) struct Forwarder {
    waiting: BTreeMap<u64, Waiting>,
    deadlines: BTreeSet<(u64, u64)>,
    per_port: BTreeMap<PortIndex, u32>,
    last_token: u64,
}

impl Forwarder {
    /// Begins to ask for `name`.
    pub fn ask(&mut self, now_ns: u64, random: &mut Random, asked: Asked, name: Name) -> Step {
        let of_port = self.per_port.entry(asked.port).or_default();
        if *of_port >= WAITING_PER_PORT_MAX || self.waiting.len() >= WAITING_MAX {
            return asked.failure();
        }
        *of_port += 1;
        let question = message::Question { name, ..asked.query.question.clone() };
        self.send(Waiting { asked, question, id: 0, tries: 0, until_ns: now_ns }, random)
    }

    fn send(&mut self, mut waiting: Waiting, random: &mut Random) -> Step {
        self.last_token += 1;
        waiting.id = random.u64() as u16;
        waiting.until_ns = waiting.until_ns.saturating_add(TRY_NS);
        let query = &waiting.asked.query;
        let question = Question {
            token: self.last_token,
            resolver: waiting.tries,
            transport: match waiting.asked.client {
                Client::Udp(_) => Transport::Udp,
                Client::Tcp(_) => Transport::Tcp,
            },
            message: message::write_query(waiting.id, &waiting.question, query.flags, query.edns),
        };
        waiting.tries += 1;
        self.deadlines.insert((waiting.until_ns, self.last_token));
        self.waiting.insert(self.last_token, waiting);
        Step::Ask(question)
    }

    fn take(&mut self, token: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&token)?;
        self.deadlines.remove(&(waiting.until_ns, token));
        Some(waiting)
    }

    fn end(&mut self, waiting: &Waiting) {
        if let Some(count) = self.per_port.get_mut(&waiting.asked.port) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_port.remove(&waiting.asked.port);
            }
        }
    }

    /// What came on a token's socket. `None`: it is no answer to what was asked there.
    pub fn answered(&mut self, token: u64, bytes: &[u8]) -> Option<Step> {
        let waiting = self.waiting.get(&token)?;
        if !message::answers_query(bytes, waiting.id, &waiting.question) {
            return None;
        }
        let asked = &waiting.asked;
        let answer = match reply(asked, bytes) {
            Some(reply) => Step::Answer(asked.port, asked.client, reply),
            None => asked.failure(),
        };
        let waiting = self.take(token)?;
        self.end(&waiting);
        Some(answer)
    }

    /// The token's socket failed before an answer came: the next resolver is asked at once.
    pub fn failed(&mut self, now_ns: u64, token: u64, random: &mut Random) -> Option<Step> {
        let waiting = self.take(token)?;
        Some(self.again(now_ns, waiting, random))
    }

    fn again(&mut self, now_ns: u64, mut waiting: Waiting, random: &mut Random) -> Step {
        if waiting.tries < TRIES_MAX {
            waiting.until_ns = now_ns;
            return self.send(waiting, random);
        }
        self.end(&waiting);
        waiting.asked.failure()
    }

    /// What is due by now.
    pub fn poll(&mut self, now_ns: u64, random: &mut Random) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some((_, token)) =
            self.deadlines.first().copied().filter(|(until_ns, _)| *until_ns <= now_ns)
        {
            self.deadlines.pop_first();
            let Some(waiting) = self.waiting.remove(&token) else { continue };
            steps.push(Step::Forget(token));
            steps.push(self.again(now_ns, waiting, random));
        }
        steps
    }

    /// Gives up what a port asked. The tokens whose sockets are of no more use.
    pub fn forget(&mut self, port: PortIndex) -> Vec<u64> {
        let of_port = self.waiting.iter().filter(|(_, waiting)| waiting.asked.port == port);
        let tokens: Vec<u64> = of_port.map(|(token, _)| *token).collect();
        for token in &tokens {
            self.take(*token);
        }
        self.per_port.remove(&port);
        tokens
    }

    /// When something is due next.
    pub fn next_ns(&self) -> Option<u64> {
        self.deadlines.first().map(|(until_ns, _)| *until_ns)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// Another resolver's answer as the client's. `None`: it cannot be read.
fn reply(asked: &Asked, bytes: &[u8]) -> Option<Vec<u8>> {
    let query = &asked.query;
    if asked.chain.is_empty() {
        // As it is, but for the id. The question is as long as the client's, and gets its letters' case back.
        let mut reply = bytes.to_vec();
        reply.get_mut(..2)?.copy_from_slice(&query.id.to_be_bytes());
        let name = query.question.name.wire();
        reply.get_mut(12..12 + name.len())?.copy_from_slice(name);
        return if reply.len() <= asked.client.answer_bytes_max(query) {
            Some(reply)
        } else {
            Some(truncated(query))
        };
    }
    let (code, was_truncated, answers) = message::read_answers(bytes)?;
    if was_truncated {
        return Some(truncated(query));
    }
    let answers = asked.chain.iter().cloned().chain(answers).collect();
    Some(asked.answer(&Response { code, answers, authority: None }))
}

/// Says only that the answer is too long, so that the client comes again by TCP.
fn truncated(query: &Query) -> Vec<u8> {
    Response::default().write(query, 0)
}
