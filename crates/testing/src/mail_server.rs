//! A mail server: SMTP (RFC 5321) with AUTH PLAIN (RFC 4954) on loopback, which keeps the letters it takes.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// A client that says nothing for this long is left.
const PATIENCE: Duration = Duration::from_secs(30);

/// A letter as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub from: String,
    pub to: Vec<String>,
    /// What the client signed in with, in base64.
    pub credentials: Option<String>,
    /// Headers and body.
    pub text: String,
}

impl Letter {
    /// Headers and body as they are read: what quoted-printable (RFC 2045) breaks and escapes is whole again.
    #[must_use]
    pub fn plain(&self) -> String {
        if !self.text.contains("Content-Transfer-Encoding: quoted-printable") {
            return self.text.clone();
        }
        let joined = self.text.replace("=\n", "");
        let mut pieces = joined.split('=');
        let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
        for piece in pieces {
            match piece.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok()) {
                Some(byte) => {
                    bytes.push(byte);
                    bytes.extend_from_slice(&piece.as_bytes()[2..]);
                }
                None => bytes.extend(format!("={piece}").bytes()),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[derive(Debug, Default)]
struct Kept {
    letters: Mutex<Vec<Letter>>,
    came: Condvar,
    stopped: AtomicBool,
    refusing: AtomicBool,
}

#[derive(Debug)]
pub struct MailServer {
    address: SocketAddr,
    kept: Arc<Kept>,
}

impl MailServer {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When loopback can't be listened on.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be listened on");
        let address = listener.local_addr().expect("a bound listener has an address");
        let kept = Arc::new(Kept::default());
        let serving = Arc::clone(&kept);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let kept = Arc::clone(&serving);
                // A client that breaks off is no fault of the server.
                std::thread::spawn(move || stream.and_then(|stream| talk(&stream, &kept)).ok());
            }
        });
        Self { address, kept }
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on no letter is taken.
    pub fn refuse(&self) {
        self.kept.refusing.store(true, Ordering::SeqCst);
    }

    /// The letters so far.
    #[must_use]
    pub fn letters(&self) -> Vec<Letter> {
        self.kept.letters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there are so many letters.
    ///
    /// # Panics
    /// When they don't come within the patience.
    #[must_use]
    pub fn wait_for(&self, count: usize, patience: Duration) -> Vec<Letter> {
        let started = Instant::now();
        let mut letters = self.kept.letters.lock().unwrap_or_else(PoisonError::into_inner);
        while letters.len() < count {
            let left = patience.checked_sub(started.elapsed());
            let Some(left) = left else { panic!("{} of {count} letters came", letters.len()) };
            let woken = self.kept.came.wait_timeout(letters, left);
            letters = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        letters.clone()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.kept.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is over.
        TcpStream::connect(self.address).ok();
    }
}

fn talk(stream: &TcpStream, kept: &Kept) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream).lines();
    let mut writer = stream;
    let mut say = |text: &str| writer.write_all(format!("{text}\r\n").as_bytes());
    say("220 mail.test ESMTP")?;
    let mut letter = Letter { from: String::new(), to: Vec::new(), credentials: None, text: String::new() };
    while let Some(line) = lines.next().transpose()? {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => say("250-mail.test\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN")?,
            "AUTH" => {
                letter.credentials = line.split(' ').nth(2).map(str::to_owned);
                say("235 welcome")?;
            }
            "MAIL" | "RCPT" if kept.refusing.load(Ordering::SeqCst) => say("451 not now")?,
            "MAIL" => {
                letter.from = address(&line);
                say("250 ok")?;
            }
            "RCPT" => {
                letter.to.push(address(&line));
                say("250 ok")?;
            }
            "DATA" => {
                say("354 go on")?;
                letter.text.clear();
                while let Some(line) = lines.next().transpose()? {
                    if line == "." {
                        break;
                    }
                    letter.text.push_str(line.strip_prefix('.').unwrap_or(&line));
                    letter.text.push('\n');
                }
                kept.letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter.clone());
                kept.came.notify_all();
                letter.to.clear();
                say("250 taken")?;
            }
            "QUIT" => return say("221 bye"),
            "RSET" | "NOOP" => say("250 ok")?,
            _ => say("502 what?")?,
        }
    }
    Ok(())
}

/// What stands between `<` and `>`.
fn address(line: &str) -> String {
    let inside = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map(|(address, _)| address.to_owned()).unwrap_or_default()
}
