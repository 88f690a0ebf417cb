//! Each rule on small histories, and random ones with one thing changed.
