//! The ingress on real databases, with several nodes in one process, some of which die: what was acknowledged has its effect
//! exactly once, in the order of its key.

mod bounds;
mod dead;
mod google;
mod order;
mod scene;
mod submit;
mod supersede;

/// Runs the cases of a module on both databases.
#[macro_export]
macro_rules! on_both {
    ($($case:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[test]
                fn $case() {
                    super::$case(&$crate::scene::Database::sqlite());
                }
            )*
        }
        mod on_postgres {
            $(
                #[test]
                fn $case() {
                    super::$case(&$crate::scene::Database::postgres());
                }
            )*
        }
    };
}
