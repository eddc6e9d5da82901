//! What is found in the text of a rule before it is ever evaluated.

use std::collections::BTreeSet;

use regorus::{
    Engine,
    unstable::{Expr, Import, Literal, LiteralStmt, Module, Query, Rule, RuleHead, Span},
};

use super::{
    PACKAGE, RULE, RegoError, builtins,
    call::Calls,
    graph::Graph,
    negation, pattern,
    reference::{Imports, Reference, imported},
    walk::{self, Met},
};
use crate::refusal::told;

/// Most statements of one body. The engine goes one call deeper with each that looks into a list.
const STATEMENTS_MAX: usize = 128;
/// Most steps of one reference, for the same reason.
const STEPS_MAX: usize = 32;

const IMPORT_WORDS: &str = "add `import future.keywords`, or `import rego.v1`";
/// Words of Rego v1, which name what they like in v0.
const KEYWORDS: [&str; 4] = ["contains", "every", "if", "in"];

const OF_PACKAGE: &str = "begin it with `package sigstore`, with a rule isCompliant";
const SHORTER: &str = "give parts of it rules of their own";

/// Looks through the one text in `engine`. Answers with another where statements have to be taken out of it.
pub(super) fn inspected(engine: &mut Engine, text: &str) -> Result<Option<String>, RegoError> {
    let packages = engine.get_policy_package_components().map_err(|error| RegoError::of_engine(&*error))?;
    let named = |components: &[String]| matches!(components, [name] if name == PACKAGE);
    let [module] = engine.get_modules().as_slice() else {
        return Err(RegoError::whole("is not one module", OF_PACKAGE));
    };
    if !packages.iter().all(|package| named(&package.components)) {
        let written = told(module.package.refr.span().text());
        let what = format!("has the package \"{written}\", expected \"{PACKAGE}\"");
        return Err(RegoError::at(module.package.span.line, what, OF_PACKAGE));
    }
    is_asked_for(module)?;
    let inspection = Inspection::of(module);
    inspection.errors.into_iter().min_by_key(|error| error.line).map_or(Ok(()), Err)?;
    Ok((!inspection.prints.is_empty()).then(|| without(text, inspection.prints)))
}

/// The rule that is asked is there, and no function.
fn is_asked_for(module: &Module) -> Result<(), RegoError> {
    let mut found = false;
    for rule in &module.policy {
        if name(rule) != Some(RULE) {
            continue;
        }
        if is_function(rule) {
            let what = format!("has {RULE} as a function, which nobody calls");
            return Err(RegoError::at(
                rule.span().line,
                what,
                "write it without arguments; what is judged is in `input`",
            ));
        }
        found = true;
    }
    if !found {
        return Err(RegoError::whole(format!("has no rule {RULE}"), OF_PACKAGE));
    }
    Ok(())
}

/// What a head is the head of.
fn head(rule: &Rule) -> &Expr {
    match rule {
        Rule::Default { refr, .. } => refr,
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
        },
    }
}

fn name(rule: &Rule) -> Option<&str> {
    Reference::of(head(rule)).map(|reference| reference.root)
}

fn is_function(rule: &Rule) -> bool {
    match rule {
        Rule::Default { args, .. } => !args.is_empty(),
        Rule::Spec { head, .. } => matches!(head, RuleHead::Func { .. }),
    }
}

#[derive(Default)]
struct Inspection {
    errors: Vec<RegoError>,
    /// Statements that only print.
    prints: Vec<Span>,
}

impl Inspection {
    fn of(module: &Module) -> Self {
        let mut inspection = Self::default();
        let functions = module.policy.iter().filter(|rule| is_function(rule));
        let functions = functions.filter_map(|rule| Reference::of(head(rule))?.path()).collect();
        let calls = Calls { functions, imports: Imports::of(&module.imports) };
        let names: BTreeSet<_> = module.policy.iter().filter_map(|rule| name(rule)).collect();
        let globals = globals(&names, &module.imports);
        inspection.errors.extend(module.policy.iter().filter_map(|rule| keyword(rule)));
        if !is_imported(module, "contains") {
            inspection.errors.extend(module.policy.iter().filter_map(|rule| contains(rule)));
        }
        inspection.errors.extend(module.policy.iter().filter_map(|rule| bare(rule)));
        let mut graph = Graph::new(names, &calls.imports);
        for rule in &module.policy {
            inspection.rule(rule, &calls, &mut graph);
            inspection.errors.extend(negation::faults(rule, &globals));
        }
        inspection.errors.extend(graph.fault());
        inspection
    }

    fn rule<'a>(&mut self, rule: &'a Rule, calls: &Calls<'a>, graph: &mut Graph<'a>) {
        let from = name(rule).unwrap_or_default();
        graph.place(from, rule.span().line);
        let (mut references, mut made) = (Vec::new(), Vec::new());
        // Names that the rule binds itself; elsewhere they may be names of rules.
        let mut locals = BTreeSet::new();
        // The functions of statements that only print, which are met as calls too.
        let mut printing = BTreeSet::new();
        walk::rule(rule, &mut |met| match met {
            Met::Reference(reference) => references.push(reference),
            Met::Binding(name) => {
                locals.insert(name);
            }
            Met::Call { function, arguments } => made.push((function, arguments)),
            Met::With { target, replacement } => self.errors.extend(calls.replaced(target, replacement)),
            Met::Query(query) => {
                self.errors.extend(too_many(query));
                for (place, function) in query.stmts.iter().filter_map(print_of) {
                    printing.insert(std::ptr::from_ref(function));
                    self.prints.push(place.clone());
                }
            }
        });
        self.errors.extend(references.iter().filter_map(|reference| too_long(reference, rule)));
        for reference in references.iter().filter(|reference| !locals.contains(reference.root)) {
            graph.refers(from, reference);
        }
        for (function, arguments) in made {
            // What is called is never a local.
            if let Some(reference) = Reference::of(function) {
                graph.refers(from, &reference);
            }
            if !printing.contains(&std::ptr::from_ref(function)) {
                self.errors.extend(calls.fault(function, arguments.len()));
                self.errors.extend(pattern::fault(function, arguments));
            }
        }
    }
}

/// Where `isCompliant if { … }` was meant, v0 reads two rules, the first of which always holds.
fn keyword(rule: &Rule) -> Option<RegoError> {
    let name = name(rule).filter(|name| KEYWORDS.contains(name))?;
    let what = format!("has a rule with the name {name}, a word of Rego v1");
    Some(RegoError::at(rule.span().line, what, IMPORT_WORDS))
}

/// The engine takes the word without its import, the controller does not.
fn contains(rule: &Rule) -> Option<RegoError> {
    let Rule::Spec { head: RuleHead::Set { span, .. }, .. } = rule else {
        return None;
    };
    let written = span.text().split_whitespace().nth(1) == Some("contains");
    written.then(|| RegoError::at(span.line, "has a rule with contains, a word of Rego v1", IMPORT_WORDS))
}

fn is_imported(module: &Module, word: &str) -> bool {
    let of_word =
        |path: Vec<&str>| matches!(path.as_slice(), ["future", "keywords"]) || path == ["future", "keywords", word];
    module.rego_v1 || module.imports.iter().filter_map(imported).any(|(_, path)| of_word(path))
}

/// The controller does not read a rule that is a name alone; the engine takes it for true.
fn bare(rule: &Rule) -> Option<RegoError> {
    let Rule::Spec { head: RuleHead::Compr { refr, assign: None, .. }, bodies, .. } = rule else {
        return None;
    };
    let is_bare = matches!(**refr, Expr::Var { .. }) && bodies.iter().all(|body| body.query.stmts.is_empty());
    let what = || format!("has the name \"{}\" alone where a rule is expected", told(refr.span().text()));
    is_bare.then(|| RegoError::at(rule.span().line, what(), "write what it is: a value after `=`, or a body in `{ }`"))
}

/// The names that every rule knows.
fn globals<'a>(names: &BTreeSet<&'a str>, imports: &'a [Import]) -> BTreeSet<&'a str> {
    // The others name parts of the language.
    let of_documents = |path: &[&str]| matches!(path.first(), Some(&("input" | "data")));
    let imported = imports.iter().filter_map(imported).filter(|(_, path)| of_documents(path)).map(|(name, _)| name);
    names.iter().copied().chain(imported).chain(["input", "data"]).collect()
}

/// Where a statement is nothing but a call of `print`: its place, and the function in it.
fn print_of(statement: &LiteralStmt) -> Option<(&Span, &Expr)> {
    let LiteralStmt { literal: Literal::Expr { expr, .. }, with_mods, .. } = statement else {
        return None;
    };
    let Expr::Call { span, fcn, .. } = &**expr else {
        return None;
    };
    let path = Reference::of(fcn)?.path()?;
    (with_mods.is_empty() && path == [builtins::PRINT]).then_some((span, &**fcn))
}

fn too_many(query: &Query) -> Option<RegoError> {
    let count = query.stmts.len();
    let what = || format!("has a body of {count} statements, at most {STATEMENTS_MAX} are evaluated");
    (count > STATEMENTS_MAX).then(|| RegoError::at(query.span.line, what(), SHORTER))
}

fn too_long(reference: &Reference<'_>, rule: &Rule) -> Option<RegoError> {
    let count = reference.steps.len();
    let what = || {
        let root = told(reference.root);
        format!("has a reference of {count} steps from \"{root}\", at most {STEPS_MAX} are followed")
    };
    (count > STEPS_MAX).then(|| RegoError::at(rule.span().line, what(), SHORTER))
}

/// The text with `true` for each of these statements, every line where it was.
fn without(text: &str, mut statements: Vec<Span>) -> String {
    statements.sort_by_key(|span| span.start);
    let (mut silent, mut at) = (String::with_capacity(text.len()), 0);
    for span in statements {
        let (Ok(start), Ok(end)) = (usize::try_from(span.start), usize::try_from(span.end)) else {
            continue;
        };
        let (Some(before), Some(printed)) = (text.get(at..start), text.get(start..end)) else {
            continue;
        };
        silent.push_str(before);
        silent.push_str("true");
        silent.extend(printed.chars().filter(|c| *c == '\n'));
        at = end;
    }
    silent.push_str(text.get(at..).unwrap_or_default());
    silent
}
