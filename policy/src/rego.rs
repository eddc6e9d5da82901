//! Content rules: what a policy asks of the words of an attestation, or of all authorities' results together.
//!
//! A rule is Rego as the controller runs it: v0 syntax, `package sigstore`, a rule `isCompliant`. It is compiled and looked
//! through when the policy is loaded; what could reach out of a judgement, run without end or differ from one judgement to
//! the next is found there, by name, and not at the first pull. Whatever does not come to an answer is never a yes.

mod builtins;
mod call;
mod error;
mod graph;
mod input;
mod inspect;
mod negation;
mod nesting;
mod pattern;
mod reference;
mod ruling;
mod walk;

use std::{
    error::Error,
    fmt,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use oci::UnixTime;
use regorus::{Engine, LimitError, PolicyLengthConfig, utils::limits::ExecutionTimerConfig};

pub use error::RegoError;
pub(crate) use input::{AttestationMatch, AuthorityMatch, PolicyInput, RegoInput, SignatureMatch};
pub(crate) use ruling::{Compliance, Ruling};

use builtins::Clock;

/// Longest text of one rule. The examples of Chainguard and of the controller are below 4 KiB.
const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Time enough for a rule to look through a large SBOM several times, and short beside what a client waits.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest attestation that is fetched by default can be asked about.
const INPUT_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Steps between two looks at the timer: a step is short, and so is a look.
const TIMER_INTERVAL: NonZeroU32 = NonZeroU32::new(16).expect("16 is not zero");
/// The name under which the engine knows the text; its errors repeat it.
const FILE: &str = "policy.rego";
/// The package the controller asks.
const PACKAGE: &str = "sigstore";
/// The rule the controller asks for.
const RULE: &str = "isCompliant";
/// Both, as the engine is asked.
const QUERY: &str = "data.sigstore.isCompliant";

/// One content rule, compiled.
#[derive(Clone)]
pub struct Rego {
    text: Arc<str>,
    /// Prepared and never evaluated: each evaluation takes a copy of its own, so that nothing outlives one that panics.
    engine: Arc<Engine>,
}

/// How far an evaluation may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegoBounds {
    /// Longest time of one evaluation.
    pub timeout: Duration,
    /// Longest JSON a rule is given. It bounds the memory of an evaluation, which takes several times as much.
    pub input_bytes_max: u64,
}

impl Default for RegoBounds {
    fn default() -> Self {
        Self { timeout: TIMEOUT, input_bytes_max: INPUT_BYTES_MAX }
    }
}

/// Why a rule came to no answer. None of these is a yes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegoFault {
    /// Ended by the timer.
    #[error("content rule came to no end within {limit:?}")]
    TimedOut {
        /// As configured.
        limit: Duration,
    },
    /// Not begun.
    #[error("content rule would be given {bytes} bytes, at most {max} are allowed")]
    InputTooLarge {
        /// Of JSON.
        bytes: u64,
        /// As configured.
        max: u64,
    },
    /// What it was to be given is not JSON that means one thing only.
    #[error("content rule cannot be given its input: {why}")]
    InputUnreadable {
        /// Escaped and bounded.
        why: String,
    },
    /// The engine gave up: two values for one rule, say. It would do so again.
    #[error("content rule cannot be evaluated: {why}")]
    Failed {
        /// Escaped and bounded.
        why: String,
    },
}

impl Rego {
    /// Compiles the text of a policy.
    pub fn compile(text: &str) -> Result<Self, RegoError> {
        if text.len() > TEXT_BYTES_MAX {
            let what = format!("is {} bytes of Rego, at most {TEXT_BYTES_MAX} are read", text.len());
            return Err(RegoError::whole(what, "split the policy in several; all that match must pass"));
        }
        nesting::check(text)?;
        let mut engine = parsed(text)?;
        // What the controller takes out before it evaluates is taken out here, and the rest read again.
        if let Some(silent) = inspect::inspected(&mut engine, text)? {
            engine = parsed(&silent)?;
        }
        builtins::offer(&mut engine).map_err(|error| RegoError::of_engine(&*error))?;
        // Prepares the engine: variables that nothing binds are found now.
        engine.eval_query("true".to_owned(), false).map_err(|error| RegoError::of_engine(&*error))?;
        Ok(Self { text: text.into(), engine: Arc::new(engine) })
    }

    /// As the policy gives it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the rule says of `input` at `now`.
    ///
    /// A panic of the engine passes through, leaves nothing behind and does this rule no harm.
    pub(crate) fn evaluate(&self, input: &RegoInput, bounds: &RegoBounds, now: UnixTime) -> Result<Ruling, RegoFault> {
        let mut engine = Engine::clone(&self.engine);
        let clock = Clock::at(now);
        clock.offer(&mut engine).map_err(|error| fault(&*error, bounds))?;
        engine.set_input(input.value());
        let timer = ExecutionTimerConfig { limit: bounds.timeout, check_interval: TIMER_INTERVAL };
        engine.set_execution_timer_config(timer);
        let answer = engine.eval_rule(QUERY.to_owned()).map_err(|error| fault(&*error, bounds))?;
        Ok(Ruling { outcome: Compliance::of(&answer), read_clock: clock.was_read() })
    }
}

/// Rules are equal when their texts are.
impl PartialEq for Rego {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Rego {}

impl fmt::Debug for Rego {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rego").field(&self.text).finish()
    }
}

fn parsed(text: &str) -> Result<Engine, RegoError> {
    let mut engine = Engine::new();
    engine.set_rego_v0(true);
    engine.set_strict_builtin_errors(false);
    engine.set_policy_length_config(length_bounds());
    engine.add_policy(FILE.to_owned(), text.to_owned()).map_err(|error| RegoError::of_engine(&*error))?;
    Ok(engine)
}

/// The text as a whole is bounded; a long line of names is as good as many short ones.
fn length_bounds() -> PolicyLengthConfig {
    let bytes = NonZeroUsize::new(2 * TEXT_BYTES_MAX).unwrap_or(NonZeroUsize::MAX);
    let columns = u32::try_from(bytes.get()).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
    PolicyLengthConfig { max_col: columns, max_file_bytes: bytes, max_lines: bytes }
}

fn fault(error: &(dyn Error + 'static), bounds: &RegoBounds) -> RegoFault {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(LimitError::TimeLimitExceeded { .. }) = error.downcast_ref() {
            return RegoFault::TimedOut { limit: bounds.timeout };
        }
        cause = error.source();
    }
    RegoFault::Failed { why: RegoError::of_engine(error).to_string() }
}

#[cfg(test)]
mod tests;
