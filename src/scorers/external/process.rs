//! A child process: a request is a line on its standard input, the answer a line on its standard output.

use super::start::Start;
use super::transport::{Failure, Transport};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines of standard error that a message quotes.
const QUOTED: usize = 8;
/// Longest answer in bytes.
const LONGEST: u64 = 64 << 20;
/// Time between the end of input and a kill.
const GRACE: Duration = Duration::from_secs(2);

/// A program that is started with the first request, and again after a failure.
pub struct Process {
    start: Start,
    running: Option<Running>,
}

impl Process {
    pub fn new(start: Start) -> Self {
        Self { start, running: None }
    }
}

impl Transport for Process {
    fn place(&self) -> String {
        self.start.words.join(" ")
    }

    fn exchange(&mut self, request: &str) -> Result<String, Failure> {
        let limit = if self.running.is_some() { self.start.timeout } else { self.start.start };
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::of(&self.start.words)?,
        };
        match running.ask(request, limit) {
            Ok(answer) => {
                self.running = Some(running);
                Ok(answer)
            }
            Err(problem) => {
                let problem = running.ended(problem, limit);
                Err(Failure::Passing(problem))
            }
        }
    }
}

/// Why no line was read.
enum Silence {
    TimedOut,
    Closed,
}

struct Running {
    child: Child,
    /// `None` after the end of input.
    requests: Option<Sender<String>>,
    answers: Receiver<String>,
    /// The newest lines of standard error, and the thread that reads them.
    said: Arc<Mutex<VecDeque<String>>>,
    listener: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts the program in a process group of its own: Ctrl-C on the terminal is for this program alone.
    fn of(words: &[String]) -> Result<Self, Failure> {
        let (program, arguments) = words.split_first().map_or(("", words), |(first, rest)| (first.as_str(), rest));
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let mut child = child.map_err(|e| {
            let why = format!("cannot start the program {program:?}: {e}; check the path, and that it may be executed");
            Failure::Lasting(why)
        })?;
        let (requests, lines) = channel::<String>();
        let (answered, answers) = channel();
        let said = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(input) = child.stdin.take() {
            std::thread::spawn(move || write_lines(input, &lines));
        }
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || read_lines(output, |line| answered.send(line).is_ok()));
        }
        let listener = child.stderr.take().map(|errors| {
            let said = said.clone();
            std::thread::spawn(move || read_lines(errors, |line| keep(&said, line)))
        });
        Ok(Self { child, requests: Some(requests), answers, said, listener })
    }

    fn ask(&mut self, request: &str, limit: Duration) -> Result<String, Silence> {
        // A closed pipe shows as the end of output.
        let _ = self.requests.as_ref().map(|requests| requests.send(format!("{request}\n")));
        self.answers.recv_timeout(limit).map_err(|e| match e {
            RecvTimeoutError::Timeout => Silence::TimedOut,
            RecvTimeoutError::Disconnected => Silence::Closed,
        })
    }

    /// Ends the program; the reason in words, with its last lines.
    fn ended(&mut self, silence: Silence, limit: Duration) -> String {
        let reason = match silence {
            Silence::TimedOut => format!(
                "gave no answer within {} s; raise timeout= (or start= for the first answer) if it needs longer",
                limit.as_secs_f64()
            ),
            Silence::Closed => match self.wait(GRACE) {
                Some(status) => format!("ended before it answered ({status})"),
                None => "closed its standard output without an answer".to_string(),
            },
        };
        self.kill();
        // Its last lines may still be in the pipe, and a program that it started may hold the pipe open.
        let began = Instant::now();
        while self.listener.as_ref().is_some_and(|thread| !thread.is_finished()) && began.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let said: Vec<String> = self.said.lock().map(|lines| lines.iter().cloned().collect()).unwrap_or_default();
        match said.is_empty() {
            true => format!("{reason}; it wrote nothing to standard error"),
            false => format!("{reason}; its last lines on standard error: {}", said.join(" | ")),
        }
    }

    fn wait(&mut self, limit: Duration) -> Option<std::process::ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < limit {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Kills the process group: a program may have started others.
    fn kill(&mut self) {
        self.requests = None;
        if let Ok(None) = self.child.try_wait() {
            // SAFETY: the child was not waited for, so the group is its own.
            unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
            let _ = self.child.wait();
        }
    }
}

impl Drop for Running {
    /// The end of input asks the program to end; later it is killed.
    fn drop(&mut self) {
        if self.requests.take().is_some() {
            self.wait(GRACE);
        }
        self.kill();
    }
}

fn write_lines(mut input: ChildStdin, lines: &Receiver<String>) {
    for line in lines {
        if input.write_all(line.as_bytes()).and_then(|()| input.flush()).is_err() {
            return;
        }
    }
}

/// Passes line by line until the end of the stream, or until `take` returns false.
fn read_lines(stream: impl Read, mut take: impl FnMut(String) -> bool) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if take(String::from_utf8_lossy(&line).trim_end().to_string()) => {}
            Ok(_) => return,
        }
    }
}

fn keep(said: &Mutex<VecDeque<String>>, line: String) -> bool {
    if let Ok(mut lines) = said.lock()
        && !line.is_empty()
    {
        lines.push_back(line);
        if lines.len() > QUOTED {
            lines.pop_front();
        }
    }
    true
}
