//! `fanfare doctor`: checks a configuration against the live databases and, for live mail, Google: one line per finding.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use fanfare_backend::doctor::{Finding, Grade, examine_folder, examine_postgres, examine_redis};

use crate::{config::Config, mail};

/// Examines what the configuration names, prints the findings on standard output, and fails if one of them is a failure.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) async fn run(config: &Config) -> io::Result<ExitCode> {
    let mut worst = Grade::Ok;
    let mut report = |part: &str, findings: Vec<Finding>| {
        let mut out = io::stdout().lock();
        for Finding { grade, text } in findings {
            worst = worst.max(grade);
            writeln!(out, "{grade:<4}  {part:<8}  {text}")?;
        }
        out.flush()
    };
    report("settings", settings(config))?;
    match &config.postgres {
        Some(url) => report("postgres", examine_postgres(url.reveal()).await)?,
        None => report("data", examine_folder(&config.data))?,
    }
    match &config.redis {
        Some(url) => report("redis", examine_redis(url.reveal()).await)?,
        None if config.postgres.is_some() => report("redis", vec![no_bus()])?,
        None => {}
    }
    report("mail", mail::examine(&config.mail).await)?;
    Ok(if worst == Grade::Fail {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn settings(config: &Config) -> Vec<Finding> {
    let read = Finding {
        grade: Grade::Ok,
        text: "every setting can be used".to_owned(),
    };
    let remarks = config.remarks().into_iter();
    let remarks = remarks.map(|text| Finding {
        grade: Grade::Warn,
        text: text.to_owned(),
    });
    std::iter::once(read).chain(remarks).collect()
}

fn no_bus() -> Finding {
    Finding {
        grade: Grade::Warn,
        text: "redis is not set: servers that share the database hear of each other's messages up to a few hundred \
               milliseconds later"
            .to_owned(),
    }
}
