//! The sync of mailboxes on a real database, with nodes that die, against the stand-in for Google: whoever reads a mailbox's
//! channel has in the end what Gmail has, and was told every change once.

mod changes;
mod client;
mod crash;
mod crowd;
mod keeping;
mod notifications;
mod resync;
mod scene;
mod trouble;

/// Runs cases of a module on both databases.
#[macro_export]
macro_rules! on_both {
    ($($case:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[test]
                fn $case() {
                    super::$case(&$crate::scene::World::new());
                }
            )*
        }
        mod on_postgres {
            $(
                #[test]
                fn $case() {
                    let database = $crate::scene::Database::postgres();
                    super::$case(&$crate::scene::World::on(database));
                }
            )*
        }
    };
}
