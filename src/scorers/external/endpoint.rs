//! An HTTP endpoint: a request is the JSON body of a POST, the answer the body of the response.

use super::start::Start;
use super::transport::{Failure, Transport};
use anyhow::{Result, bail};
use std::time::Duration;
use ureq::http::StatusCode;

/// Largest answer in bytes.
const LARGEST: u64 = 64 << 20;
/// Characters of a refusal that a message quotes.
const QUOTED: usize = 300;

pub struct Endpoint {
    url: String,
    timeout: Duration,
    start: Duration,
    /// Whether it has answered: the first answer may take longer.
    answered: bool,
    agent: ureq::Agent,
}

impl Endpoint {
    /// # Errors
    /// More than one word, or an address that is not http:// or https://.
    pub fn new(start: &Start) -> Result<Self> {
        let [url] = start.words.as_slice() else {
            bail!("expected one address behind http=, found {:?}", start.words.join(" "));
        };
        if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            bail!("{url:?}: expected an address that begins with http:// or https://, as http=http://localhost:8000/");
        }
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Ok(Self { url: url.clone(), timeout: start.timeout, start: start.start, answered: false, agent })
    }

    fn post(&self, request: &str, limit: Duration) -> Result<(StatusCode, String), ureq::Error> {
        let post = self.agent.post(&self.url).config().timeout_global(Some(limit)).build();
        let mut response = post.header("content-type", "application/json").send(request)?;
        let text = response.body_mut().with_config().limit(LARGEST).read_to_string()?;
        Ok((response.status(), text))
    }
}

impl Transport for Endpoint {
    fn place(&self) -> String {
        self.url.clone()
    }

    fn exchange(&mut self, request: &str) -> Result<String, Failure> {
        let limit = if self.answered { self.timeout } else { self.start };
        let (status, text) = self.post(request, limit).map_err(|e| unreachable(&e, limit))?;
        self.answered = true;
        if status.is_success() {
            return Ok(text);
        }
        let said: String = text.trim().chars().take(QUOTED).collect();
        let reason = format!("answered {status} with {said:?}");
        match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            true => Err(Failure::Passing(format!("{reason}; see the log of that server"))),
            false => Err(Failure::Lasting(format!("{reason}; check the address and what the server expects"))),
        }
    }
}

fn unreachable(error: &ureq::Error, limit: Duration) -> Failure {
    let passing = |text: String| Failure::Passing(text);
    match error {
        ureq::Error::Timeout(_) => passing(format!(
            "gave no answer within {} s; raise timeout= (or start= for the first answer) if it needs longer",
            limit.as_secs_f64()
        )),
        ureq::Error::Io(e) => passing(format!("cannot be reached: {e}; start the server, or correct the address")),
        ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => {
            passing(format!("cannot be reached: {error}; start the server, or correct the address"))
        }
        other => Failure::Lasting(format!("cannot be asked: {other}")),
    }
}
