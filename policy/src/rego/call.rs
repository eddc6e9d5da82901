//! Which calls a rule may make.

use std::collections::BTreeSet;

use regorus::unstable::Expr;

use super::{
    PACKAGE, RegoError, builtins,
    reference::{Imports, Reference},
};
use crate::refusal::told;

const ON_INPUT: &str = "decide on `input` alone; of the world outside only time.now_ns can be asked";
const ON_BUILTINS: &str =
    "there are OPA's functions on strings, numbers, objects, arrays, sets, regex, glob, json, base64, semver and time";

/// What can be called in a text.
pub(super) struct Calls<'a> {
    /// Functions of the text's own, as their heads name them.
    pub(super) functions: BTreeSet<Vec<&'a str>>,
    pub(super) imports: Imports<'a>,
}

impl Calls<'_> {
    /// Why this call may not be made, if so.
    pub(super) fn fault(&self, function: &Expr, arguments: usize) -> Option<RegoError> {
        let line = function.span().line;
        let written = told(function.span().text());
        let Some(path) = Reference::of(function).and_then(|reference| reference.path()) else {
            let what = format!("calls \"{written}\", a function whose name is computed");
            return Some(RegoError::at(line, what, "name the function"));
        };
        if self.is_own(&path) {
            return None;
        }
        let name = path.join(".");
        if let Some(why) = builtins::forbidden(&name) {
            let hint = if why == builtins::DIFFERENT { ON_BUILTINS } else { ON_INPUT };
            return Some(RegoError::at(line, format!("calls {}, {why}", told(&name)), hint));
        }
        if name == builtins::PRINT {
            return Some(RegoError::at(
                line,
                "calls print within a statement",
                "print in a statement of its own, or not",
            ));
        }
        if !builtins::is_offered(&name) {
            let what = format!("calls {}, which is neither a function of this text nor one offered to it", told(&name));
            return Some(RegoError::at(line, what, ON_BUILTINS));
        }
        let wanted = builtins::exact_arguments(&name)?;
        let what = || format!("calls {name} with {arguments} arguments, expected {wanted}");
        (arguments != usize::from(wanted)).then(|| RegoError::at(line, what(), "take the answer with `:=`"))
    }

    /// Why one of these may not stand in the other's place, if so.
    pub(super) fn replaced(&self, target: &Expr, replacement: &Expr) -> Option<RegoError> {
        [target, replacement].into_iter().find_map(|expr| {
            let path = Reference::of(expr)?.path()?;
            let why = builtins::forbidden(&path.join(".")).filter(|_| !self.is_own(&path))?;
            let what = format!("names {}, {why}", told(&path.join(".")));
            Some(RegoError::at(expr.span().line, what, ON_INPUT))
        })
    }

    fn is_own(&self, path: &[&str]) -> bool {
        let own = |path: &[&str]| match path {
            ["data", package, function @ ..] if *package == PACKAGE => self.functions.contains(function),
            _ => false,
        };
        let imported = || {
            let (name, steps) = path.split_first()?;
            Some(own(&[self.imports.path(name)?, steps].concat()))
        };
        self.functions.contains(path) || own(path) || imported().unwrap_or(false)
    }
}
