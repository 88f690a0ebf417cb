//! What the file says of channels, as it stands there.

use fanfare_gateway::access::Access;
use serde::Deserialize;

/// The options of channels, in both tables that have them. Spelled out in each, as unknown settings cannot be refused in a
/// flattened struct.
macro_rules! options {
    ($($option:ident: $kind:ty,)*) => {
        /// The options as they stand in the file's `[channels]`.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(in crate::config) struct FileChannels {
            $(pub(super) $option: Option<$kind>,)*
            #[serde(default)]
            pub(super) rules: Vec<FileRule>,
        }

        /// One of the file's `[[namespaces]]`.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(in crate::config) struct FileNamespace {
            pub(super) name: String,
            $(pub(super) $option: Option<$kind>,)*
            #[serde(default)]
            pub(super) rules: Vec<FileRule>,
        }

        impl FileNamespace {
            /// Its name, and what is said of its channels.
            pub(super) fn split(self) -> (String, FileChannels) {
                let Self { name, $($option,)* rules } = self;
                (name, FileChannels { $($option,)* rules })
            }
        }
    };
}

options! {
    kind: FileKind,
    subscribe: Access,
    publish: Access,
    history: Access,
    presence: Access,
    join_leave: bool,
    join_leave_per: FilePer,
    force_push_join_leave: bool,
    recovery: bool,
    history_max_count: u64,
    history_max_age: String,
    recovery_max_count: u64,
    history_limit_max: u64,
    message_bytes_max: u64,
    publishes_per_second: u64,
    publishes_burst: u64,
    allowed_delta_types: Vec<DeltaType>,
    allow_tags_filter: bool,
    subscribe_proxy_enabled: bool,
    sub_refresh_proxy_enabled: bool,
    publish_proxy_enabled: bool,
    allow_user_limited_channels: bool,
    personal_channels: bool,
}

/// What becomes of what is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum FileKind {
    Durable,
    State,
    Ephemeral,
}

/// Of what joins and leaves are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum FilePer {
    Client,
    User,
}

/// A kind of delta in which subscribers may have publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum DeltaType {
    Fossil,
}

/// One of the `rules` of either.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FileRule {
    pub(super) pattern: String,
    pub(super) subscribe: Option<Access>,
    pub(super) publish: Option<Access>,
    pub(super) history: Option<Access>,
    pub(super) presence: Option<Access>,
}
