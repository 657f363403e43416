//! Which keys a floor covers: from rules, and summed up. Pure.

use std::{collections::BTreeSet, sync::Arc};

use schemas::{record::Scope, rules::Rule};

/// Every key that one of `rules` can make; `None` without rules.
pub(crate) fn of_rules<'a>(rules: impl Iterator<Item = &'a Rule>) -> Option<Scope> {
    let mut sum = ScopeSum::default();
    let mut any = false;
    for rule in rules {
        any = true;
        for prefix in rule.prefixes() {
            if prefix.is_empty() {
                return Some(Scope::All);
            }
            sum.prefixes.insert(Arc::from(prefix));
        }
    }
    any.then(|| sum.scope()).flatten()
}

/// A growing scope.
#[derive(Debug, Default)]
pub(crate) struct ScopeSum {
    all: bool,
    prefixes: BTreeSet<Arc<str>>,
}

impl ScopeSum {
    /// Adds `scope`; gives back what of it was not there before.
    pub(crate) fn add(&mut self, scope: &Scope) -> Option<Scope> {
        match scope {
            _ if self.all => None,
            Scope::All => {
                self.all = true;
                Some(Scope::All)
            }
            Scope::Prefixes(prefixes) => {
                let new: Vec<Arc<str>> = prefixes
                    .iter()
                    .filter(|prefix| self.prefixes.insert(Arc::clone(prefix)))
                    .cloned()
                    .collect();
                (!new.is_empty()).then_some(Scope::Prefixes(new))
            }
        }
    }

    /// All that was added; `None` if nothing was.
    pub(crate) fn scope(&self) -> Option<Scope> {
        if self.all {
            return Some(Scope::All);
        }
        (!self.prefixes.is_empty())
            .then(|| Scope::Prefixes(self.prefixes.iter().cloned().collect()))
    }
}

#[cfg(test)]
mod tests {
    use schemas::rules::Rules;

    use super::*;

    fn prefixes(names: &[&str]) -> Scope {
        Scope::Prefixes(names.iter().map(|name| Arc::from(*name)).collect())
    }

    #[test]
    fn sums_say_what_is_new() {
        let mut sum = ScopeSum::default();
        assert_eq!(sum.scope(), None);
        assert_eq!(sum.add(&prefixes(&["a:", "b:"])), Some(prefixes(&["a:", "b:"])));
        assert_eq!(sum.add(&prefixes(&["b:", "c:"])), Some(prefixes(&["c:"])));
        assert_eq!(sum.add(&prefixes(&["a:"])), None);
        assert_eq!(sum.scope(), Some(prefixes(&["a:", "b:", "c:"])));
        assert_eq!(sum.add(&Scope::All), Some(Scope::All));
        assert_eq!(sum.add(&prefixes(&["d:"])), None);
        assert_eq!(sum.scope(), Some(Scope::All));
    }

    #[test]
    fn a_template_that_begins_with_a_column_covers_everything() {
        let text = "[[rule]]\ntable = 's.a'\nkeys = ['a:{id}', 'x']\n[[rule]]\ntable = 's.b'\nkeys = ['{id}']\n";
        let rules = Rules::parse("r.toml", text).unwrap();
        let of = |table: &str| of_rules(rules.iter().filter(|rule| rule.matches("s", table)));
        assert_eq!(of("a"), Some(prefixes(&["a:", "x"])));
        assert_eq!(of("b"), Some(Scope::All));
        assert_eq!(of("c"), None);
    }
}
