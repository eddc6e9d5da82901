//! Which negations a rule may make: those of which OPA and this engine say the same.
//!
//! OPA looks up what a negated call is given *before* it negates: `not input.score > 7` has no answer where there is no score.
//! This engine negates the whole, and says yes. And OPA compiles no negation of what stands for several values, where this
//! engine says yes if it holds for any of them. Alike are the negation of a reference, of an equality of references and of
//! values, and of a call or comparison that is given nothing but values and variables bound before. All else is refused.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{AssignOp, BoolOp, Expr, Literal, LiteralStmt, Query, Ref, Rule, RuleBody, RuleHead};

use super::{
    RegoError,
    reference::Reference,
    walk::{self, Met},
};
use crate::refusal::told;

const BIND_FIRST: &str =
    "bind it in a statement before: `v := …`, and then `not f(v)`; where it is missing, the body fails, as in OPA";
const OWN_RULE: &str = "give what is negated a rule of its own: `bad { input.list[_] == \"x\" }`, and then `not bad`";
const NOT_WITH: &str = "give what is negated a rule of its own, and negate that without `with`";

/// All negations in `rule` that are refused. `globals` are the names that any rule of the text knows.
pub(super) fn faults<'a>(rule: &'a Rule, globals: &'a BTreeSet<&'a str>) -> Vec<RegoError> {
    let mut faults = Vec::new();
    let mut next = bodies(rule, globals);
    while let Some(body) = next.pop() {
        body.look(&mut next, &mut faults);
    }
    faults
}

/// What a rule, comprehension or `every` asks, and what it makes of the answers.
struct Body<'a> {
    statements: &'a [LiteralStmt],
    /// Evaluated with what the statements bind.
    heads: Vec<&'a Expr>,
    scope: Scope<'a>,
}

fn bodies<'a>(rule: &'a Rule, globals: &'a BTreeSet<&'a str>) -> Vec<Body<'a>> {
    let mut scope = Scope { globals, locals: BTreeMap::new() };
    let (head, bodies) = match rule {
        Rule::Default { value, .. } => return vec![Body { statements: &[], heads: vec![value], scope }],
        Rule::Spec { head, bodies, .. } => (head, bodies),
    };
    let (RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. }) = head;
    let mut heads: Vec<&Expr> = Reference::of(refr).map(|reference| reference.computed).unwrap_or_default();
    match head {
        RuleHead::Set { key, .. } => heads.extend(key.iter().map(|key| &**key)),
        RuleHead::Compr { assign, .. } => heads.extend(assign.iter().map(|assign| &*assign.value)),
        RuleHead::Func { args, assign, .. } => {
            for argument in args {
                scope.bind_pattern(argument);
            }
            heads.extend(assign.iter().map(|assign| &*assign.value));
        }
    }
    if bodies.is_empty() {
        return vec![Body { statements: &[], heads, scope }];
    }
    let of_body = |body: &'a RuleBody| {
        let heads = heads.iter().copied().chain(body.assign.iter().map(|assign| &*assign.value));
        Body::of(&body.query, heads.collect(), scope.clone())
    };
    bodies.iter().map(of_body).collect()
}

impl<'a> Body<'a> {
    /// Looks at the statements in their order, and lists the bodies within this one.
    fn look(mut self, next: &mut Vec<Self>, faults: &mut Vec<RegoError>) {
        for statement in self.statements {
            for with in &statement.with_mods {
                self.scope.inner(&with.r#as, next);
            }
            match &statement.literal {
                Literal::SomeVars { vars, .. } => vars.iter().for_each(|var| self.scope.declare(var.text())),
                Literal::SomeIn { key, value, collection, .. } => {
                    self.scope.inner(collection, next);
                    key.iter().chain([value]).for_each(|pattern| self.scope.bind_pattern(pattern));
                }
                Literal::Expr { expr, .. } => {
                    self.scope.inner(expr, next);
                    self.scope.bind_by(expr);
                }
                Literal::NotExpr { expr, .. } => faults.extend(self.scope.fault(expr, statement)),
                Literal::Every { key, value, domain, query, .. } => {
                    self.scope.inner(domain, next);
                    let mut scope = self.scope.clone();
                    key.iter().chain([value]).for_each(|var| scope.bind(var.text()));
                    next.push(Body::of(query, Vec::new(), scope));
                }
            }
        }
        for head in &self.heads {
            self.scope.inner(head, next);
        }
    }

    fn of(query: &'a Query, heads: Vec<&'a Expr>, scope: Scope<'a>) -> Self {
        Self { statements: &query.stmts, heads, scope }
    }
}

/// Why an expression may not be negated.
enum Flaw<'a> {
    /// A variable that nothing before it binds: it stands for several values.
    Unbound(&'a str),
    /// What OPA would look up outside of the negation.
    LookedUp(&'a Expr),
}

/// The names that are known at a place.
#[derive(Clone)]
struct Scope<'a> {
    /// Rules and imports.
    globals: &'a BTreeSet<&'a str>,
    /// Variables, and whether they are bound there.
    locals: BTreeMap<&'a str, bool>,
}

impl<'a> Scope<'a> {
    fn bind(&mut self, name: &'a str) {
        if name != "_" {
            self.locals.insert(name, true);
        }
    }

    fn declare(&mut self, name: &'a str) {
        self.locals.insert(name, false);
    }

    fn bind_pattern(&mut self, pattern: &'a Expr) {
        walk::bound(pattern, &mut |met| {
            if let Met::Binding(name) = met {
                self.bind(name);
            }
        });
    }

    /// Unless the name is that of a rule or import here.
    fn bind_unless_global(&mut self, name: &'a str) {
        if self.locals.contains_key(name) || !self.globals.contains(name) {
            self.bind(name);
        }
    }

    /// Binds what a statement binds: by assigning, by looking through a list with an index, by the answer of a call.
    fn bind_by(&mut self, expr: &'a Expr) {
        let (mut assigned, mut found) = (Vec::new(), Vec::new());
        walk::expression(expr, &mut |met| match met {
            Met::Binding(name) => assigned.push(name),
            Met::Reference(reference) => found.extend(reference.computed.iter().copied().filter_map(variable)),
            Met::Call { .. } | Met::Query(_) | Met::With { .. } => {}
        });
        let mut unified = |pattern: &'a Expr| {
            walk::bound(pattern, &mut |met| {
                if let Met::Binding(name) = met {
                    found.push(name);
                }
            });
        };
        if let Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } = expr {
            unified(lhs);
            unified(rhs);
        } else if let Expr::Call { params, .. } = expr {
            params.last().into_iter().for_each(|answer| unified(answer));
        }
        for name in found {
            self.bind_unless_global(name);
        }
        for name in assigned {
            self.bind(name);
        }
    }

    /// Lists the bodies of the comprehensions in `expr`.
    fn inner(&self, expr: &'a Expr, next: &mut Vec<Body<'a>>) {
        for comprehension in walk::expression(expr, &mut |_| {}) {
            if let Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } = comprehension {
                next.push(Body::of(query, vec![&**term], self.clone()));
            } else if let Expr::ObjectCompr { key, value, query, .. } = comprehension {
                next.push(Body::of(query, vec![&**key, &**value], self.clone()));
            }
        }
    }

    fn fault(&self, negated: &'a Expr, statement: &LiteralStmt) -> Option<RegoError> {
        let line = statement.span.line;
        if !statement.with_mods.is_empty() {
            return Some(RegoError::at(line, "negates an expression that is evaluated with something else", NOT_WITH));
        }
        Some(match self.negatable(negated).err()? {
            Flaw::Unbound(name) => {
                let what = format!("negates an expression with \"{}\", which nothing before it binds", told(name));
                RegoError::at(line, what, OWN_RULE)
            }
            Flaw::LookedUp(expr) => {
                let written = told(expr.span().text());
                RegoError::at(line, format!("negates an expression in which \"{written}\" may be missing"), BIND_FIRST)
            }
        })
    }

    fn negatable(&self, expr: &'a Expr) -> Result<(), Flaw<'a>> {
        if let Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. } = expr {
            self.comparable(lhs)?;
            self.comparable(rhs)
        } else if let Expr::BoolExpr { lhs, rhs, .. } = expr {
            self.all_given([lhs, rhs])
        } else if let Expr::Membership { key, value, collection, .. } = expr {
            self.all_given(key.iter().chain([value, collection]))
        } else if let Expr::Call { params, .. } = expr {
            self.all_given(params)
        } else {
            self.comparable(expr)
        }
    }

    /// A reference, or what is there in any case.
    fn comparable(&self, expr: &'a Expr) -> Result<(), Flaw<'a>> {
        let Some(reference) = Reference::of(expr) else {
            return self.given(expr);
        };
        if !self.knows(reference.root) {
            return Err(Flaw::Unbound(reference.root));
        }
        reference.computed.into_iter().try_for_each(|step| self.given(step))
    }

    fn all_given(&self, expressions: impl IntoIterator<Item = &'a Ref<Expr>>) -> Result<(), Flaw<'a>> {
        expressions.into_iter().try_for_each(|expr| self.given(expr))
    }

    /// A value that the text writes out, or a variable that is bound. Brackets nest no deeper than `nesting` lets them.
    fn given(&self, expr: &'a Expr) -> Result<(), Flaw<'a>> {
        if is_scalar(expr) || variable(expr).is_some_and(|name| self.locals.get(name) == Some(&true)) {
            Ok(())
        } else if let Expr::Array { items, .. } | Expr::Set { items, .. } = expr {
            self.all_given(items)
        } else if let Expr::Object { fields, .. } = expr {
            self.all_given(fields.iter().flat_map(|(_, key, value)| [key, value]))
        } else {
            Err(self.unbound_in(expr).map_or(Flaw::LookedUp(expr), Flaw::Unbound))
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.locals.get(name).copied().unwrap_or_else(|| self.globals.contains(name))
    }

    /// A variable in `expr` that nothing binds.
    fn unbound_in(&self, expr: &'a Expr) -> Option<&'a str> {
        let mut unbound = None;
        walk::expression(expr, &mut |met| {
            if let Met::Reference(reference) = met
                && !self.knows(reference.root)
            {
                unbound = Some(reference.root);
            }
        });
        unbound
    }
}

fn is_scalar(expr: &Expr) -> bool {
    if let Expr::UnaryExpr { expr: number, .. } = expr {
        return matches!(**number, Expr::Number { .. });
    }
    matches!(
        expr,
        Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. }
    )
}

fn variable(expr: &Expr) -> Option<&str> {
    if let Expr::Var { span, .. } = expr { Some(span.text()) } else { None }
}
