//! A name server as a literal: what it says to each question may be changed at any time, and what it was asked is kept.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

pub(crate) use RecordType::{A, AAAA};

/// The answer to a question.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// These addresses, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// The same, but over UDP only that TCP has to be used.
    OverTcp(Vec<IpAddr>),
    /// The same, when [`NameService::release`] is called.
    Held(Vec<IpAddr>),
    /// NODATA.
    Nothing,
    Code(ResponseCode),
    Silence,
}

/// Serves on UDP and TCP of one loopback address. A name that it was not told of does not exist.
pub(crate) struct NameService {
    pub(crate) address: SocketAddr,
    script: Arc<Script>,
    released: watch::Sender<bool>,
}

#[derive(Default)]
struct Script {
    says: Mutex<HashMap<(String, RecordType), Says>>,
    asked: Mutex<Vec<(RecordType, HadOpt)>>,
}

/// Whether a question had EDNS's OPT record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HadOpt {
    Yes,
    No,
}

pub(crate) fn says(addresses: &[&str]) -> Says {
    Says::Addresses(ips(addresses), 60)
}

pub(crate) fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|it| it.parse().unwrap()).collect()
}

impl NameService {
    pub(crate) async fn start() -> Self {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        let script = Arc::new(Script::default());
        let (released, waits) = watch::channel(false);
        tokio::spawn(over_udp(Arc::new(udp), Arc::clone(&script), waits));
        tokio::spawn(over_tcp(tcp, Arc::clone(&script)));
        Self {
            address,
            script,
            released,
        }
    }

    pub(crate) fn set(&self, name: &str, kind: RecordType, says: Says) {
        lock(&self.script.says).insert((name.to_owned(), kind), says);
    }

    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    pub(crate) fn asked(&self) -> Vec<(RecordType, HadOpt)> {
        lock(&self.script.asked).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Script {
    fn answer(&self, question: &Message) -> Says {
        let query = &question.queries[0];
        let had_opt = match question.edns {
            Some(_) => HadOpt::Yes,
            None => HadOpt::No,
        };
        lock(&self.asked).push((query.query_type(), had_opt));
        let name = query.name().to_ascii().trim_end_matches('.').to_owned();
        let says = lock(&self.says).get(&(name, query.query_type())).cloned();
        says.unwrap_or(Says::Code(ResponseCode::NXDomain))
    }
}

async fn over_udp(udp: Arc<UdpSocket>, script: Arc<Script>, waits: watch::Receiver<bool>) {
    let mut buffer = vec![0; 4096];
    loop {
        let (bytes, peer) = udp.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..bytes]).unwrap();
        let says = script.answer(&question);
        let (udp, mut waits) = (Arc::clone(&udp), waits.clone());
        tokio::spawn(async move {
            let mut answer = response(&question);
            match says {
                Says::Silence => return,
                Says::OverTcp(_) => answer.metadata.truncation = true,
                Says::Held(addresses) => {
                    waits.wait_for(|released| *released).await.unwrap();
                    fill(&mut answer, Says::Addresses(addresses, 60));
                }
                says => fill(&mut answer, says),
            }
            let _ = udp.send_to(&answer.to_vec().unwrap(), peer).await;
        });
    }
}

async fn over_tcp(tcp: TcpListener, script: Arc<Script>) {
    loop {
        let (mut stream, _) = tcp.accept().await.unwrap();
        let script = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok(bytes) = stream.read_u16().await {
                let mut buffer = vec![0; bytes.into()];
                stream.read_exact(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer).unwrap();
                let mut answer = response(&question);
                fill(&mut answer, script.answer(&question));
                let answer = answer.to_vec().unwrap();
                let bytes = u16::try_from(answer.len()).unwrap();
                stream.write_u16(bytes).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
    }
}

fn response(question: &Message) -> Message {
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.add_query(question.queries[0].clone());
    answer
}

fn fill(answer: &mut Message, says: Says) {
    let name = answer.queries[0].name().clone();
    let (addresses, ttl) = match says {
        Says::Addresses(addresses, ttl) => (addresses, ttl),
        Says::OverTcp(addresses) | Says::Held(addresses) => (addresses, 60),
        Says::Code(code) => {
            answer.metadata.response_code = code;
            return;
        }
        Says::Nothing | Says::Silence => return,
    };
    for address in addresses {
        let data = match address {
            IpAddr::V4(ip) => RData::A(ip.into()),
            IpAddr::V6(ip) => RData::AAAA(ip.into()),
        };
        answer.add_answer(Record::from_rdata(name.clone(), ttl, data));
    }
}
