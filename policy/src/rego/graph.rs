//! Which rule of a text needs which others. One that needs itself would have no end.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    PACKAGE, RegoError,
    reference::{Imports, Reference},
};
use crate::refusal::told;

/// Longest chain of rules that need one another: the engine goes deeper with each.
const CHAIN_MAX: usize = 32;

pub(super) struct Graph<'a> {
    names: BTreeSet<&'a str>,
    /// What names stand for that the text imports.
    imports: BTreeMap<&'a str, Vec<&'a str>>,
    needs: BTreeMap<&'a str, BTreeSet<&'a str>>,
    lines: BTreeMap<&'a str, u32>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(names: BTreeSet<&'a str>, imports: &Imports<'a>) -> Self {
        let imports = imports.iter().map(|(name, path)| (*name, path.clone())).collect();
        Self { names, imports, needs: BTreeMap::new(), lines: BTreeMap::new() }
    }

    /// Where `name` is first defined.
    pub(super) fn place(&mut self, name: &'a str, line: u32) {
        self.lines.entry(name).or_insert(line);
    }

    /// Notes what `from` needs for `reference`.
    pub(super) fn refers(&mut self, from: &'a str, reference: &Reference<'a>) {
        let needed = self.needed(reference);
        self.needs.entry(from).or_default().extend(needed);
    }

    fn needed(&self, reference: &Reference<'a>) -> Vec<&'a str> {
        if self.names.contains(reference.root) {
            return vec![reference.root];
        }
        let steps = reference.steps.iter().copied();
        let mut path: Vec<Option<&str>> = match self.imports.get(reference.root) {
            Some(path) => path.iter().copied().map(Some).chain(steps).collect(),
            None if reference.root == "data" => std::iter::once(Some("data")).chain(steps).collect(),
            None => return Vec::new(),
        };
        path.resize(path.len().max(3), None);
        match path.as_slice() {
            [_, Some(package), ..] if *package != PACKAGE => Vec::new(),
            [_, Some(_), Some(name), ..] => self.names.get(name).copied().into_iter().collect(),
            // The package as a whole, or a part that is computed: any rule.
            _ => self.names.iter().copied().collect(),
        }
    }

    /// A rule that needs itself, or a chain that is too long.
    pub(super) fn fault(&self) -> Option<RegoError> {
        let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
        // Each round settles the rules of which all needs are settled.
        loop {
            let unsettled = self.names.iter().filter(|name| !depths.contains_key(**name));
            let settled: Vec<_> = unsettled.filter_map(|name| Some((*name, self.depth(name, &depths)?))).collect();
            if settled.is_empty() {
                break;
            }
            depths.extend(settled);
            if let Some((name, _)) = depths.iter().find(|(_, depth)| **depth > CHAIN_MAX) {
                let what =
                    format!("has a chain of more than {CHAIN_MAX} rules that need one another, to {}", told(name));
                return Some(RegoError::at(self.line(name), what, "let fewer rules do the work of these"));
            }
        }
        let name = self.names.iter().find(|name| !depths.contains_key(**name) && self.reaches_itself(name))?;
        let what = format!("has a rule that needs itself: {}", told(name));
        let hint = "Rego knows no recursion; where only a variable is meant, give it another name than a rule has";
        Some(RegoError::at(self.line(name), what, hint))
    }

    fn line(&self, name: &str) -> u32 {
        self.lines.get(name).copied().unwrap_or(0)
    }

    fn depth(&self, name: &str, depths: &BTreeMap<&str, usize>) -> Option<usize> {
        let needs = self.needs.get(name).into_iter().flatten();
        needs.map(|need| depths.get(need).copied()).try_fold(1, |deepest, depth| Some(deepest.max(depth? + 1)))
    }

    fn reaches_itself(&self, name: &str) -> bool {
        let (mut seen, mut next) = (BTreeSet::new(), vec![name]);
        while let Some(from) = next.pop() {
            for need in self.needs.get(from).into_iter().flatten() {
                if *need == name {
                    return true;
                }
                if seen.insert(*need) {
                    next.push(need);
                }
            }
        }
        false
    }
}
