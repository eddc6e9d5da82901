//! What a reference in a rule refers to, as far as the text tells.

use regorus::{
    Value,
    unstable::{Expr, Import, Span},
};

/// A variable and what is asked of it, in order: `Some` where the text names it, `None` where it is computed.
pub(super) struct Reference<'a> {
    pub(super) root: &'a str,
    pub(super) steps: Vec<Option<&'a str>>,
    /// The expressions that compute steps.
    pub(super) computed: Vec<&'a Expr>,
}

impl<'a> Reference<'a> {
    /// `None` where something else than a variable is looked into: a call's answer, a literal.
    pub(super) fn of(mut expression: &'a Expr) -> Option<Self> {
        let (mut steps, mut computed) = (Vec::new(), Vec::new());
        loop {
            if let Expr::RefDot { refr, field, .. } = expression {
                steps.push(Some(field.0.text()));
                expression = refr;
            } else if let Expr::RefBrack { refr, index, .. } = expression {
                if let Expr::String { value: Value::String(text), .. } = &**index {
                    steps.push(Some(&**text));
                } else {
                    steps.push(None);
                    computed.push(&**index);
                }
                expression = refr;
            } else {
                break;
            }
        }
        let Expr::Var { span, .. } = expression else {
            return None;
        };
        steps.reverse();
        Some(Self { root: span.text(), steps, computed })
    }

    /// Where every step is named: the root and the steps.
    pub(super) fn path(&self) -> Option<Vec<&'a str>> {
        let steps: Option<Vec<&str>> = self.steps.iter().copied().collect();
        let mut path = steps?;
        path.insert(0, self.root);
        Some(path)
    }
}

/// Names under which the text imports parts of its own package.
pub(super) struct Imports<'a>(Vec<(&'a str, Vec<&'a str>)>);

impl<'a> Imports<'a> {
    pub(super) fn of(imports: &'a [Import]) -> Self {
        Self(imports.iter().filter_map(imported).filter(|(_, path)| path.first() == Some(&"data")).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(&'a str, Vec<&'a str>)> {
        self.0.iter()
    }

    /// The path under `data` for which `name` stands.
    pub(super) fn path(&self, name: &str) -> Option<&[&'a str]> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, path)| path.as_slice())
    }
}

/// The name that an import gives, and the path for which it stands.
pub(super) fn imported(import: &Import) -> Option<(&str, Vec<&str>)> {
    let path = Reference::of(&import.refr)?.path()?;
    let name = import.r#as.as_ref().map(Span::text).or_else(|| path.last().copied())?;
    Some((name, path))
}
