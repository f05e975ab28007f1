//! What `cluster check` found, step by step, and what to do about it.

use std::fmt;

use portcullis_policy::{ClusterId, TenantId};
use serde::Serialize;

/// Everything that was looked at, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Whose cluster.
    pub tenant: TenantId,
    /// Which cluster.
    pub cluster: ClusterId,
    /// What was looked at.
    pub steps: Vec<Step>,
}

impl Report {
    /// Whether the cluster can be served as its policy says: no step failed. Warnings do not count.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.steps
            .iter()
            .all(|step| step.outcome != Outcome::Failed)
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// What was looked at: `reach 10.0.0.10:5432`.
    pub what: String,
    /// How it is.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What to do about it; one or more lines, SQL and configuration ready to paste.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should be.
    Good,
    /// It works, but somebody should look at it.
    Warning,
    /// It keeps the cluster from being served as the policy says.
    Failed,
    /// It could not be looked at, because of an earlier step.
    Skipped,
}

impl Step {
    pub(super) fn good(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            outcome: Outcome::Good,
            found: found.into(),
            fix: None,
        }
    }

    pub(super) fn warning(
        what: impl Into<String>,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (what, found, fix) = (what.into(), found.into(), Some(fix.into()));
        Self {
            what,
            outcome: Outcome::Warning,
            found,
            fix,
        }
    }

    pub(super) fn failed(
        what: impl Into<String>,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (what, found, fix) = (what.into(), found.into(), Some(fix.into()));
        Self {
            what,
            outcome: Outcome::Failed,
            found,
            fix,
        }
    }

    pub(super) fn skipped(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            outcome: Outcome::Skipped,
            found: why.into(),
            fix: None,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cluster {}/{}", self.tenant, self.cluster)?;
        for step in &self.steps {
            write!(f, "{step}")?;
        }
        let verdict = if self.is_good() {
            "this cluster can be served as its policy says"
        } else {
            "this cluster can NOT be served as its policy says: see the failed steps"
        };
        writeln!(f, "{verdict}")
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {:<8} {}: {}",
            self.outcome.to_string(),
            self.what,
            self.found
        )?;
        for line in self.fix.iter().flat_map(|fix| fix.lines()) {
            writeln!(f, "           > {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_steps_with_what_to_do_under_those_that_failed() {
        let mut report = Report {
            tenant: "acme".parse().unwrap(),
            cluster: "orders".parse().unwrap(),
            steps: vec![
                Step::good("reach 10.0.0.10:5432", "connected"),
                Step::warning("engine", "an old one", "upgrade"),
                Step::skipped("functions", "nobody is signed in"),
            ],
        };
        assert!(report.is_good());
        report.steps.push(Step::failed(
            "TLS",
            "off",
            "ssl = on\nthen: SELECT pg_reload_conf();",
        ));
        assert!(!report.is_good());
        assert_eq!(
            report.to_string(),
            "cluster acme/orders\n  \
               ok       reach 10.0.0.10:5432: connected\n  \
               warning  engine: an old one\n           \
                        > upgrade\n  \
               skipped  functions: nobody is signed in\n  \
               FAILED   TLS: off\n           \
                        > ssl = on\n           \
                        > then: SELECT pg_reload_conf();\n\
             this cluster can NOT be served as its policy says: see the failed steps\n"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["steps"][3]["outcome"], "failed");
        assert_eq!(json["steps"][0].get("fix"), None);
    }
}
