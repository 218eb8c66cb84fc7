//! Conservation under contention (`crate::contended`): the short form runs always, the long one by `cargo xtask test long`.

use crate::{contended, guest};

guest::by_every_backend! { every_call_is_accounted_for }

fn every_call_is_accounted_for(backend: &str) {
    contended::accounted_for(backend, "contention", "--duration 2s");
}

/// `cargo xtask test long`.
mod long {
    crate::guest::by_every_backend! { every_call_of_half_a_minute_is_accounted_for }

    fn every_call_of_half_a_minute_is_accounted_for(backend: &str) {
        crate::contended::accounted_for(backend, "contention-long", "--duration 30s");
    }
}
