//! What each server keeps and what it does not, from its own documentation. What a run has shown is in the tables of the run.

use crate::peers::args::Peer;

/// What holds in the configuration that is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keeps {
    /// What the publisher knows when it is answered.
    pub(super) acknowledged: &'static str,
    /// Where messages are, and for how long.
    pub(super) kept: &'static str,
    /// What a client gets that was away.
    pub(super) resume: &'static str,
    /// Which order is promised.
    pub(super) order: &'static str,
}

impl Keeps {
    /// Those of a server.
    pub(super) fn of(peer: Peer) -> Self {
        match peer {
            Peer::Fanfare | Peer::FanfareSocketio => Self {
                acknowledged: "committed and flushed in PostgreSQL; a retry with its key is found",
                kept: "in PostgreSQL, by age and count of the namespace; survives Redis, nodes and the machine",
                resume: "everything after any position, on any node",
                order: "one per channel, numbered without holes, on all nodes",
            },
            Peer::SocketioRedis => Self {
                acknowledged: "handed to Redis Pub/Sub (our HTTP route answers then)",
                kept: "nowhere: at most once; while Redis is away only the node's own clients get it",
                resume: "nothing: this adapter has no connection state recovery",
                order: "that of one node for its own publishers; none between nodes",
            },
            Peer::SocketioStreams => Self {
                acknowledged: "handed to the client of Redis (our HTTP route answers then)",
                kept: "in one stream in Redis's memory, about 10,000 entries of all rooms together; as durable as that Redis is (here: not)",
                resume: "for 2 minutes, if the client had received something, the node that it was on noticed the end and still lives, and the stream goes back far enough; all rooms or none",
                order: "none promised: a node's own clients get its publications at once, others from the stream",
            },
            Peer::Nchan => Self {
                acknowledged: "in the shared memory of nginx",
                kept: "the last 10 of a channel for an hour (its defaults), in memory; gone with nginx",
                resume: "by message id, over WebSocket with the subprotocol ws+meta.nchan (not used here), within that buffer",
                order: "one per channel; one nginx only",
            },
            Peer::NchanRedis => Self {
                acknowledged: "stored in Redis",
                kept: "the last 10 of a channel for an hour (its defaults), in Redis; as durable as that Redis is (here: not)",
                resume: "as Nchan, on any node",
                order: "one per channel",
            },
            Peer::Sockudo => Self {
                acknowledged: "handed to the adapter",
                kept: "nowhere as measured; history is an option, of its own protocol V2, written behind the delivery",
                resume: "nothing over Pusher's protocol; V2 has recovery from a buffer",
                order: "none promised over Pusher's protocol",
            },
            Peer::Nats => Self {
                acknowledged: "taken by the node that was published to (a ping behind each message is answered)",
                kept: "nowhere: at most once; JetStream, which keeps, is not measured",
                resume: "nothing",
                order: "per publisher's connection",
            },
            Peer::Centrifugo => Self {
                acknowledged: "published to its engine; with history, stored there",
                kept: "in its engine (memory or Redis), as many and as long as the namespace says",
                resume: "from a position, within that history",
                order: "one per channel, numbered, where positions are on",
            },
        }
    }
}
