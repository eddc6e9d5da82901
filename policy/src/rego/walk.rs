//! Every expression of a rule, once.

use regorus::unstable::{AssignOp, Expr, Literal, Query, Ref, Rule, RuleBody, RuleHead};

use super::reference::Reference;

/// What a walk meets.
pub(super) enum Met<'a> {
    /// A variable, with what is asked of it.
    Reference(Reference<'a>),
    /// A variable that belongs to the rule.
    Binding(&'a str),
    /// A function and what it is given.
    Call { function: &'a Expr, arguments: &'a [Ref<Expr>] },
    /// The body of a rule or comprehension.
    Query(&'a Query),
    /// What an expression is evaluated with: the place that is replaced, and by what.
    With { target: &'a Expr, replacement: &'a Expr },
}

/// What is still to be walked. A list and no recursion: a text can nest more deeply than a stack is high.
enum Next<'a> {
    Expr(&'a Expr),
    Query(&'a Query),
}

/// Tells `meet` of everything in `rule`, its head included.
pub(super) fn rule<'a>(rule: &'a Rule, meet: &mut dyn FnMut(Met<'a>)) {
    let mut next = Vec::new();
    match rule {
        Rule::Default { args, value, .. } => {
            of_arguments(args, &mut next, meet);
            next.push(Next::Expr(value));
        }
        Rule::Spec { head, bodies, .. } => {
            of_head(head, &mut next, meet);
            for RuleBody { assign, query, .. } in bodies {
                next.extend(assign.iter().map(|assign| Next::Expr(&assign.value)));
                next.push(Next::Query(query));
            }
        }
    }
    while let Some(item) = next.pop() {
        match item {
            Next::Query(query) => {
                of_query(query, &mut next, meet);
                meet(Met::Query(query));
            }
            Next::Expr(expr) => of_expr(expr, &mut next, meet),
        }
    }
}

/// Tells `meet` of everything in `expr` but its comprehensions, which are answered.
pub(super) fn expression<'a>(expr: &'a Expr, meet: &mut dyn FnMut(Met<'a>)) -> Vec<&'a Expr> {
    let (mut comprehensions, mut next) = (Vec::new(), vec![Next::Expr(expr)]);
    while let Some(item) = next.pop() {
        // Only comprehensions have bodies.
        let Next::Expr(expr) = item else { continue };
        if matches!(expr, Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. }) {
            comprehensions.push(expr);
        } else {
            of_expr(expr, &mut next, meet);
        }
    }
    comprehensions
}

/// The reference of a head names the rule; only what computes its steps is walked.
fn of_head<'a>(head: &'a RuleHead, next: &mut Vec<Next<'a>>, meet: &mut dyn FnMut(Met<'a>)) {
    let (RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. }) = head;
    next.extend(Reference::of(refr).into_iter().flat_map(|reference| reference.computed).map(Next::Expr));
    match head {
        RuleHead::Compr { assign, .. } => next.extend(assign.iter().map(|assign| Next::Expr(&assign.value))),
        RuleHead::Set { key, .. } => next.extend(key.iter().map(|key| Next::Expr(key))),
        RuleHead::Func { args, assign, .. } => {
            of_arguments(args, next, meet);
            next.extend(assign.iter().map(|assign| Next::Expr(&assign.value)));
        }
    }
}

fn of_arguments<'a>(arguments: &'a [Ref<Expr>], next: &mut Vec<Next<'a>>, meet: &mut dyn FnMut(Met<'a>)) {
    for argument in arguments {
        bound(argument, meet);
        next.push(Next::Expr(argument));
    }
}

fn of_query<'a>(query: &'a Query, next: &mut Vec<Next<'a>>, meet: &mut dyn FnMut(Met<'a>)) {
    for stmt in &query.stmts {
        match &stmt.literal {
            Literal::SomeVars { vars, .. } => {
                for var in vars {
                    meet(Met::Binding(var.text()));
                }
            }
            Literal::SomeIn { key, value, collection, .. } => {
                for pattern in key.iter().chain([value]) {
                    bound(pattern, meet);
                }
                next.extend(key.iter().map(|key| Next::Expr(key)));
                next.extend([Next::Expr(value), Next::Expr(collection)]);
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => next.push(Next::Expr(expr)),
            Literal::Every { key, value, domain, query, .. } => {
                for var in key.iter().chain([value]) {
                    meet(Met::Binding(var.text()));
                }
                next.extend([Next::Expr(domain), Next::Query(query)]);
            }
        }
        for with in &stmt.with_mods {
            meet(Met::With { target: &with.refr, replacement: &with.r#as });
            next.push(Next::Expr(&with.r#as));
        }
    }
}

fn of_expr<'a>(expr: &'a Expr, next: &mut Vec<Next<'a>>, meet: &mut dyn FnMut(Met<'a>)) {
    match expr {
        Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. } => {}
        Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => of_reference(expr, next, meet),
        Expr::Array { items, .. } | Expr::Set { items, .. } => {
            next.extend(items.iter().map(|item| Next::Expr(item)));
        }
        Expr::Object { fields, .. } => {
            next.extend(fields.iter().flat_map(|(_, key, value)| [Next::Expr(key), Next::Expr(value)]));
        }
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
            next.extend([Next::Expr(term), Next::Query(query)]);
        }
        Expr::ObjectCompr { key, value, query, .. } => {
            next.extend([Next::Expr(key), Next::Expr(value), Next::Query(query)]);
        }
        Expr::Call { fcn, params, .. } => {
            meet(Met::Call { function: fcn, arguments: params });
            next.extend(params.iter().map(|param| Next::Expr(param)));
        }
        Expr::UnaryExpr { expr, .. } => next.push(Next::Expr(expr)),
        Expr::AssignExpr { op, lhs, rhs, .. } => {
            if *op == AssignOp::ColEq {
                bound(lhs, meet);
            }
            next.extend([Next::Expr(lhs), Next::Expr(rhs)]);
        }
        Expr::BinExpr { lhs, rhs, .. } | Expr::BoolExpr { lhs, rhs, .. } | Expr::ArithExpr { lhs, rhs, .. } => {
            next.extend([Next::Expr(lhs), Next::Expr(rhs)]);
        }
        Expr::Membership { key, value, collection, .. } => {
            next.extend(key.iter().map(|key| Next::Expr(key)));
            next.extend([Next::Expr(value), Next::Expr(collection)]);
        }
    }
}

fn of_reference<'a>(expr: &'a Expr, next: &mut Vec<Next<'a>>, meet: &mut dyn FnMut(Met<'a>)) {
    if let Some(reference) = Reference::of(expr) {
        next.extend(reference.computed.iter().map(|expr| Next::Expr(expr)));
        meet(Met::Reference(reference));
        return;
    }
    // A step into something else than a variable: that, and what computes the step.
    if let Expr::RefDot { refr, .. } = expr {
        next.push(Next::Expr(refr));
    } else if let Expr::RefBrack { refr, index, .. } = expr {
        next.extend([Next::Expr(refr), Next::Expr(index)]);
    }
}

/// The variables of a pattern, which may be one.
pub(super) fn bound<'a>(pattern: &'a Expr, meet: &mut dyn FnMut(Met<'a>)) {
    let mut next = vec![pattern];
    while let Some(pattern) = next.pop() {
        if let Expr::Var { span, .. } = pattern {
            meet(Met::Binding(span.text()));
        } else if let Expr::Array { items, .. } = pattern {
            next.extend(items.iter().map(|item| &**item));
        } else if let Expr::Object { fields, .. } = pattern {
            next.extend(fields.iter().map(|(_, _, value)| &**value));
        }
    }
}
