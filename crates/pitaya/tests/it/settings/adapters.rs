//! The rows of the adapters to etcd and NATS.

use pitaya::{
    Cluster,
    config::{ConfigWarning, Sources, Table},
    settings,
};

use super::all_rows;

/// Every row of the adapters, and the test that shows what it does; with the crate of the adapter where that is its own.
pub(super) const COVERED: [(&str, &str); 34] = [
    (
        "pitaya.cluster.sd.etcd.dialtimeout",
        "pitaya_etcd::connection::k01_an_address_that_accepts_and_never_answers_is_an_error_in_time",
    ),
    ("pitaya.cluster.sd.etcd.endpoints", "pitaya_etcd::connection::k02_dead_endpoints_are_passed_over"),
    ("pitaya.cluster.sd.etcd.user", "pitaya_etcd::connection::k03_k04_users_log_in_and_nobody_else_gets_in"),
    ("pitaya.cluster.sd.etcd.pass", "pitaya_etcd::connection::k03_k04_users_log_in_and_nobody_else_gets_in"),
    ("pitaya.cluster.sd.etcd.tls.ca", "pitaya_etcd::connection::tls_needs_the_right_authority_and_the_own_certificate"),
    (
        "pitaya.cluster.sd.etcd.tls.cert",
        "pitaya_etcd::connection::tls_needs_the_right_authority_and_the_own_certificate",
    ),
    (
        "pitaya.cluster.sd.etcd.tls.key",
        "pitaya_etcd::connection::tls_needs_the_right_authority_and_the_own_certificate",
    ),
    (
        "pitaya.cluster.sd.etcd.heartbeatinterval",
        "pitaya_etcd::lease::k05_the_ttl_is_the_one_of_the_lease_and_a_dead_server_is_gone_after_it",
    ),
    (
        "pitaya.cluster.sd.etcd.grantlease.timeout",
        "pitaya_etcd::lease::k06_a_server_gives_up_when_it_cannot_register_again_in_time",
    ),
    (
        "pitaya.cluster.sd.etcd.grantlease.maxretries",
        "pitaya_etcd::lease::k07_k08_a_server_tries_so_often_and_so_far_apart_before_it_gives_up",
    ),
    (
        "pitaya.cluster.sd.etcd.grantlease.retryinterval",
        "pitaya_etcd::lease::k07_k08_a_server_tries_so_often_and_so_far_apart_before_it_gives_up",
    ),
    ("pitaya.cluster.sd.etcd.revoke.timeout", "pitaya_etcd::lease::k09_leaving_waits_no_longer_than_it_may"),
    ("pitaya.cluster.sd.etcd.heartbeatlog", "pitaya_etcd::lease::k10_each_renewal_is_logged_if_it_shall_be"),
    ("pitaya.cluster.sd.etcd.prefix", "pitaya_etcd::settings::k11_servers_of_different_prefixes_do_not_see_each_other"),
    (
        "pitaya.cluster.sd.etcd.syncserversinterval",
        "pitaya_etcd::faults::k12_what_the_watch_does_not_see_is_seen_by_a_comparison",
    ),
    ("pitaya.cluster.sd.etcd.shutdowndelay", "cluster::keys::k13_a_stopping_server_answers_others_for_the_delay"),
    ("pitaya.cluster.sd.etcd.servertypesblacklist", "cluster::keys::k14_unwanted_types_are_in_no_list_and_not_called"),
    (
        "pitaya.cluster.sd.etcd.syncserversparallelism",
        "pitaya_etcd::faults::k15_a_comparison_reads_so_many_values_at_once",
    ),
    (
        "pitaya.cluster.rpc.client.nats.connect",
        "pitaya_nats::calls::each_end_has_its_own_address_with_or_without_scheme_one_of_a_list",
    ),
    (
        "pitaya.cluster.rpc.client.nats.connectiontimeout",
        "pitaya_nats::faults::a_start_fails_within_its_timeout_when_nothing_answers_and_at_once_when_nothing_listens",
    ),
    ("pitaya.cluster.rpc.client.nats.requesttimeout", "cluster::keys::k23_a_remote_that_is_too_slow_is_given_up"),
    (
        "pitaya.cluster.rpc.client.nats.maxreconnectionretries",
        "cluster::keys::k24_k27_a_server_without_nats_ends_after_as_many_attempts",
    ),
    (
        "pitaya.cluster.rpc.client.nats.reconnectwait",
        "pitaya_nats::options::tests::pauses_grow_up_to_the_longest_and_differ",
    ),
    (
        "pitaya.cluster.rpc.client.nats.reconnectjitter",
        "pitaya_nats::options::tests::pauses_grow_up_to_the_longest_and_differ",
    ),
    (
        "pitaya.cluster.rpc.client.nats.pinginterval",
        "pitaya_nats::faults::a_frozen_nats_server_costs_each_call_its_timeout_and_is_found_out_by_pings",
    ),
    (
        "pitaya.cluster.rpc.server.nats.connect",
        "pitaya_nats::calls::each_end_has_its_own_address_with_or_without_scheme_one_of_a_list",
    ),
    (
        "pitaya.cluster.rpc.server.nats.connectiontimeout",
        "pitaya_nats::faults::a_start_fails_within_its_timeout_when_nothing_answers_and_at_once_when_nothing_listens",
    ),
    (
        "pitaya.cluster.rpc.server.nats.maxreconnectionretries",
        "cluster::keys::k24_k27_a_server_without_nats_ends_after_as_many_attempts",
    ),
    (
        "pitaya.cluster.rpc.server.nats.reconnectwait",
        "pitaya_nats::options::tests::pauses_grow_up_to_the_longest_and_differ",
    ),
    (
        "pitaya.cluster.rpc.server.nats.reconnectjitter",
        "pitaya_nats::options::tests::pauses_grow_up_to_the_longest_and_differ",
    ),
    (
        "pitaya.cluster.rpc.server.nats.pinginterval",
        "pitaya_nats::faults::a_frozen_nats_server_costs_each_call_its_timeout_and_is_found_out_by_pings",
    ),
    ("pitaya.cluster.rpc.server.nats.services", "cluster::capacity::k16_k29_remotes_run_wait_and_are_refused"),
    ("pitaya.cluster.rpc.server.nats.buffer.messages", "cluster::capacity::k16_k29_remotes_run_wait_and_are_refused"),
    (
        "pitaya.cluster.rpc.server.nats.buffer.push",
        "pitaya_nats::capacity::k17_as_many_pushes_wait_as_may_before_any_is_left_to_the_library",
    ),
];

/// Rows of which no text is wrong.
pub(super) const ANY_TEXT: [&str; 6] = [
    "pitaya.cluster.sd.etcd.user",
    "pitaya.cluster.sd.etcd.pass",
    "pitaya.cluster.sd.etcd.tls.ca",
    "pitaya.cluster.sd.etcd.tls.cert",
    "pitaya.cluster.sd.etcd.tls.key",
    "pitaya.cluster.sd.etcd.prefix",
];

/// Values that are not allowed.
pub(super) const WRONG: [(&str, &str); 38] = [
    ("pitaya.cluster.sd.etcd.dialtimeout", "0s"),
    ("pitaya.cluster.sd.etcd.dialtimeout", "87601h"),
    ("pitaya.cluster.sd.etcd.endpoints", ","),
    ("pitaya.cluster.sd.etcd.heartbeatinterval", "900ms"),
    ("pitaya.cluster.sd.etcd.heartbeatinterval", "87601h"),
    ("pitaya.cluster.sd.etcd.grantlease.timeout", "0s"),
    ("pitaya.cluster.sd.etcd.grantlease.timeout", "87601h"),
    ("pitaya.cluster.sd.etcd.grantlease.maxretries", "0"),
    ("pitaya.cluster.sd.etcd.grantlease.retryinterval", "0s"),
    ("pitaya.cluster.sd.etcd.revoke.timeout", "later"),
    ("pitaya.cluster.sd.etcd.revoke.timeout", "87601h"),
    ("pitaya.cluster.sd.etcd.heartbeatlog", "loud"),
    ("pitaya.cluster.sd.etcd.syncserversinterval", "0s"),
    ("pitaya.cluster.sd.etcd.syncserversinterval", "87601h"),
    ("pitaya.cluster.sd.etcd.shutdowndelay", "-1s"),
    ("pitaya.cluster.sd.etcd.shutdowndelay", "87601h"),
    ("pitaya.cluster.sd.etcd.servertypesblacklist", "room,a/b"),
    ("pitaya.cluster.sd.etcd.syncserversparallelism", "0"),
    ("pitaya.cluster.rpc.client.nats.connect", ""),
    ("pitaya.cluster.rpc.client.nats.connectiontimeout", "0s"),
    ("pitaya.cluster.rpc.client.nats.requesttimeout", "0"),
    ("pitaya.cluster.rpc.client.nats.requesttimeout", "87601h"),
    ("pitaya.cluster.rpc.client.nats.maxreconnectionretries", "-1"),
    ("pitaya.cluster.rpc.client.nats.reconnectwait", "61s"),
    ("pitaya.cluster.rpc.client.nats.reconnectjitter", "61s"),
    ("pitaya.cluster.rpc.client.nats.pinginterval", "0s"),
    ("pitaya.cluster.rpc.server.nats.connect", "http://localhost"),
    ("pitaya.cluster.rpc.server.nats.connectiontimeout", "0s"),
    ("pitaya.cluster.rpc.server.nats.maxreconnectionretries", "many"),
    ("pitaya.cluster.rpc.server.nats.reconnectwait", "61s"),
    ("pitaya.cluster.rpc.server.nats.reconnectjitter", "61s"),
    ("pitaya.cluster.rpc.server.nats.pinginterval", "0s"),
    ("pitaya.cluster.rpc.server.nats.services", "0"),
    ("pitaya.cluster.rpc.server.nats.services", "16777217"),
    ("pitaya.cluster.rpc.server.nats.buffer.messages", "0"),
    ("pitaya.cluster.rpc.server.nats.buffer.messages", "7.5"),
    ("pitaya.cluster.rpc.server.nats.buffer.push", "0"),
    ("pitaya.cluster.rpc.server.nats.buffer.push", "-100"),
];

/// Keys that Go Pitaya reads and that have no meaning for the NATS library here: the WebSocket of NATS is not spoken, all
/// connections have one jitter, and two unanswered pings are the end of a connection.
const WITHOUT_EFFECT: [&str; 6] = [
    "pitaya.cluster.rpc.client.nats.websocketcompression",
    "pitaya.cluster.rpc.client.nats.reconnectjittertls",
    "pitaya.cluster.rpc.client.nats.maxpingsoutstanding",
    "pitaya.cluster.rpc.server.nats.websocketcompression",
    "pitaya.cluster.rpc.server.nats.reconnectjittertls",
    "pitaya.cluster.rpc.server.nats.maxpingsoutstanding",
];

#[test]
fn keys_of_go_that_mean_nothing_here_are_accepted_and_named() {
    for key in WITHOUT_EFFECT {
        let mut sources = Sources::default();
        sources.set_text(key, "1");
        let config = Table::new(all_rows()).resolve(sources).unwrap_or_else(|problems| panic!("{key}: {problems:?}"));
        let warnings = config.warnings();
        assert!(warnings.len() == 1 && warnings[0].to_string().contains("without effect"), "{key}: {warnings:?}");
        assert!(warnings[0].to_string().contains(key), "{warnings:?}");
        assert!(!matches!(warnings[0], ConfigWarning::UnknownVariable { .. }));
    }
}

/// Without a cluster its keys do nothing; that is said, and no reason not to start.
#[test]
fn keys_of_adapters_are_named_where_there_are_none() {
    for row in Cluster::from_config().settings() {
        for name in [row.name()].iter().chain(row.aliases()) {
            let mut sources = Sources::default();
            sources.set_text(*name, "1");
            let warned = Table::new(settings::rows()).resolve(sources).map(|config| config.warnings().len());
            let ours = row.name().contains(".tls.");
            assert_eq!(warned.map_err(|_| ()), if ours { Err(()) } else { Ok(1) }, "{name}");
        }
    }
}
