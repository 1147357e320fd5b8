//! Where the configuration names rubrics, and which of these names no rubric has.
//!
//! Asked by `doctor` and `serve`, which know the rubrics. Its rule: a glob that fits nothing is told with its key and the nearest
//! name; it is no error, since a rubric may come later. The way not taken: a route that silently never fires.

use super::nearest::nearest;
use super::{Config, Per};
use crate::domain::policy::Patterns;

impl Config {
    /// What names rubrics of which there is none, each with its key and what to do.
    #[must_use]
    pub fn unmatched_rubrics(&self, names: &[&str]) -> Vec<String> {
        let mut places: Vec<(String, &Patterns)> = Vec::new();
        for (n, route) in self.alerts.routes.iter().enumerate() {
            places.push((format!("alerts.routes[{n}].rubric"), &route.rubric));
        }
        for rule in &self.watch.rules {
            places.push((format!("watch.rules[{}].rubric", rule.name), &rule.rubric));
        }
        for (n, budget) in self.budgets.iter().enumerate().filter(|(_, b)| b.per == Per::Rubric) {
            places.push((format!("budgets[{n}].only"), &budget.only));
        }
        let globs = places.iter().flat_map(|(key, patterns)| patterns.0.iter().map(move |glob| (key, glob)));
        let idle = globs.filter(|(_, glob)| {
            let one = Patterns(vec![(*glob).clone()]);
            !names.iter().any(|name| one.accept(Some(name)))
        });
        idle.map(|(key, glob)| {
            let best = nearest(glob, names.iter().copied());
            let hint = best.map_or_else(
                || format!("; there are {}", names.join(", ")),
                |best| format!("; did you mean `{best}`?"),
            );
            format!("{key}: no rubric fits `{glob}`{hint}")
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_nothing_are_told_with_their_keys() {
        let text = "
            [[budgets]]
            name = 'a'
            per = 'rubric'
            only = ['tone*', 'faithfullness']
            usd_per_day = 1.0
            [[budgets]]
            name = 'b'
            per = 'feature'
            only = ['chat']
            usd_per_day = 1.0
            [[watch.rules]]
            name = 'low'
            rubric = 'tone'
            below = 0.5
            [alerts.channels.out]
            kind = 'stdout'
            [[alerts.routes]]
            rubric = 'zzz'
            channels = ['out']";
        let config: Config = toml::from_str(text).expect("a configuration");
        let found = config.unmatched_rubrics(&["faithfulness", "tone"]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], "alerts.routes[0].rubric: no rubric fits `zzz`; there are faithfulness, tone");
        assert_eq!(found[1], "budgets[0].only: no rubric fits `faithfullness`; did you mean `faithfulness`?");
    }
}
