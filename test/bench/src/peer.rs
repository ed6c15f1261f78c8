//! The peer that has the same API: moto's server, which keeps records in memory and runs nothing.

use crate::Place;
use crate::client::{Client, Keys, Question};
use crate::cloud::port_free;
use crate::process::Process;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Its name in reports.
pub const NAME: &str = "moto_server";
const START_WAIT: Duration = Duration::from_secs(60);

/// A server of its own; it ends when this is dropped.
pub struct Moto {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// It takes any.
    pub keys: Keys,
}

impl Moto {
    /// Starts it and waits until it answers.
    pub fn start(place: &Place) -> Result<Moto> {
        let port = port_free()?;
        let program = place.peer_venv.join("bin/moto_server");
        let mut command = Command::new(&program);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let keys = Keys { access_key_id: "AKIAIOSFODNN7EXAMPLE".into(), secret_access_key: "secret".into() };
        let mut moto = Moto { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), keys };
        let began = Instant::now();
        let mut client = moto.client();
        while !client.send(&Question::caller_identity()).is_ok_and(|reply| reply.status == 200) {
            if let Some(status) = moto.child.try_wait()? {
                bail!("{NAME} ended: {status}");
            }
            if began.elapsed() > START_WAIT {
                bail!("{NAME} did not answer within {} s", START_WAIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(moto)
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(self.address, &self.keys)
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Has it forget everything.
    pub fn reset(&self) -> Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        let request = "POST /moto-api/reset HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if !answer.contains(" 200 ") {
            bail!("{NAME} does not reset: {answer}");
        }
        Ok(())
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // That it has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
