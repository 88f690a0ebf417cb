//! Asking several servers the same thing at once.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};

/// How long all of them have.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the others still have after enough have answered: one that is gone must not hold up those that are well.
const ASK_GRACE: Duration = Duration::from_millis(300);

/// The answers that came in time, or else why there are fewer than `enough` (1 at least).
pub(super) async fn ask_all<T>(
    enough: usize,
    questions: impl IntoIterator<Item = impl Future<Output = Result<T, String>>>,
) -> Result<Vec<T>, String> {
    let mut pending: FuturesUnordered<_> = questions.into_iter().collect();
    let mut answers = Vec::new();
    let mut troubles = Vec::new();
    let mut deadline = tokio::time::Instant::now() + ASK_TIMEOUT;
    while let Ok(Some(answer)) = tokio::time::timeout_at(deadline, pending.next()).await {
        match answer {
            Ok(answer) => {
                answers.push(answer);
                if answers.len() == enough {
                    deadline = deadline.min(tokio::time::Instant::now() + ASK_GRACE);
                }
            }
            Err(trouble) => troubles.push(trouble),
        }
    }
    if answers.len() < enough.max(1) {
        if !pending.is_empty() {
            troubles.push(format!("{} did not answer in time", pending.len()));
        }
        return Err(troubles.join("; "));
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use futures_util::future::{BoxFuture, FutureExt, pending, ready};

    use super::*;

    type Question = BoxFuture<'static, Result<u32, String>>;

    #[tokio::test]
    async fn one_that_never_answers_holds_nobody_up() {
        let questions: Vec<Question> = vec![
            pending().boxed(),
            ready(Ok(1)).boxed(),
            ready(Err("no".to_owned())).boxed(),
            async {
                tokio::task::yield_now().await;
                Ok(2)
            }
            .boxed(),
        ];
        assert_eq!(ask_all(1, questions).await, Ok(vec![1, 2]));
    }

    #[tokio::test]
    async fn too_few_answers_are_none() {
        let questions: Vec<Question> = vec![
            ready(Ok(1)).boxed(),
            ready(Err("no".to_owned())).boxed(),
            ready(Err("neither".to_owned())).boxed(),
        ];
        let reason = ask_all(2, questions).await.unwrap_err();
        assert_eq!(reason, "no; neither");
    }

    #[tokio::test]
    async fn without_an_answer_there_is_a_reason() {
        let questions: Vec<Question> = vec![pending().boxed(), ready(Err("no".to_owned())).boxed()];
        let reason = ask_all(1, questions).await.unwrap_err();
        assert!(reason.contains("no") && reason.contains('1'), "{reason}");
    }
}
