//! Every word of the portal, in German and English; a word that is missing in one of them does not compile.

mod english;
mod german;

pub(super) use english::ENGLISH;
pub(super) use german::GERMAN;

/// The table: every key is a word in each language.
macro_rules! words {
    ($($(#[$doc:meta])* $key:ident,)*) => {
        /// What is said, by where it stands.
        #[derive(Debug)]
        pub(super) struct Words {
            $($(#[$doc])* pub(super) $key: &'static str,)*
        }

        #[cfg(test)]
        impl Words {
            /// Every key with its word.
            fn each(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($key), self.$key),)*]
            }
        }
    };
}

words! {
    title,
    now,
    sign_in,
    sign_out,
    sign_in_lead,
    site,
    password,
    wrong_sign_in,
    too_often,
    busy,
    lost_sign_in,
    skip,
    other_language,
    deliver_now,
    delivering,
    working,
    head_idle,
    lead_idle,
    head_flowing,
    lead_flowing,
    head_trying,
    lead_trying,
    head_down,
    lead_down,
    head_wrong,
    lead_wrong,
    head_refused,
    lead_refused,
    head_busy,
    lead_busy,
    head_deferred,
    lead_deferred,
    head_held,
    lead_held,
    next_try,
    last_try,
    todo,
    waiting,
    nothing,
    messages_one,
    messages_many,
    oldest,
    counting,
    sender,
    null_sender,
    size,
    arrived,
    and_more,
    who,
    who_nobody,
    who_unknown,
    proved,
    not_proved,
    address,
    subject,
    issuer,
    names,
    fingerprint,
    no_certificate,
    certificate,
    valid_until,
    /// Behind `valid_until`, of a certificate without end.
    no_end,
    expired_since,
    expires_soon,
    certificate_unseen,
    certificate_not_needed,
    tries,
    no_tries,
    through,
    last_call,
    reported,
    pause,
    pause_lead,
    pause_until,
    pause_do,
    paused_until,
    paused_open,
    paused_by_provider,
    resume_do,
    access,
    wake_url,
    wake_url_lead,
    wake_url_set,
    wake_url_unset,
    wake_url_new,
    wake_url_revoke,
    wake_url_once,
    wake_url_gone,
    change_password,
    current_password,
    new_password,
    repeat_password,
    password_rule,
    password_changed,
    password_wrong,
    password_unfit,
    passwords_differ,
    held_done,
    resumed_done,
    bad_date,
    not_now,
    firewall,
    firewall_lead,
    firewall_files,
    script_hint,
    o_released,
    o_nothing,
    o_pending,
    o_down,
    o_wrong,
    o_refused,
    o_held,
    o_often,
    r_relayed,
    r_deferred,
    r_failed,
    r_kept,
    r_not_sent,
    r_in_doubt,
    r_unreachable,
    r_wrong_host,
    r_refused,
    r_busy,
    m_delivered,
    m_deferred,
    m_failed,
    technical,
    no_page,
    expired_form,
    signed_in_as,
    updated,
    check,
    check_lead,
    check_do,
    checking,
    check_nobody,
    s_resolve,
    s_connect,
    s_banner,
    s_starttls,
    s_chain,
    s_name,
    s_expiry,
    s_proof,
    s_size,
    issue,
    issue_lead,
    issue_how,
    issue_paste,
    issue_file,
    issue_do,
    issued_done,
    issued_until,
    issued_chain,
    issued_ca,
    issued_lines,
    issued_paths,
    too_many_certificates,
    csr_unreadable,
    csr_not_its_key,
    csr_bits,
    csr_kind,
    csr_signature,
    csr_other_name,
    csr_authority,
    key_changed,
    its_answer,
    rec_title,
    rec_lead,
    rec_hosts,
    rec_domains,
    rec_proof,
    rec_authority,
    rec_name,
    rec_listed,
    rec_contact,
    rec_no_contact,
    contact_change,
    contact_hint,
    contact_changed,
    contact_gone,
    contact_bad,
    p_static_ip,
    p_certificate,
    p_fingerprint,
    p_public,
    p_port,
    p_other,
    failed_title,
    failed_last,
    failed_from,
    failed_lead,
    times,
    start_of_day,
    c_is_site,
    c_see_above,
    c_from,
    c_presented,
    c_not_offered,
    c_without_tls,
    c_issued_by,
    c_unchecked,
    c_no_name,
    c_no_limit,
    c_limit_unsaid,
    c_at_most,
    c_no_answer,
    csr_was_key,
    csr_is_key,
    issued_again,
    x_lead,
    x_postfix,
    x_exim_debian_commands,
    x_exim_debian,
    x_exim,
    x_opensmtpd,
    x_sendmail,
    form_refused,
    last_mail,
    last_days,
    days_hint,
    paste_title,
    paste_lead,
    paste_firewall,
    paste_servers,
    paste_filters,
    n_nft,
    n_iptables,
    n_fritzbox,
    n_postfix_table,
    n_postfix,
    n_policyd_spf,
    n_postgrey,
    n_rspamd_options,
    n_rspamd_relay,
    n_rspamd_spf,
    n_rspamd_greylist,
    n_spamassassin,
    n_exim_main,
    n_exim_acl,
    n_opensmtpd,
    n_opendmarc,
    n_fail2ban,
    n_postfix_keys,
    n_postfix_by_key,
    n_exim_shown,
    n_exim_by_certificate,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same word in both languages.
    const SAME: [&str; 2] = ["firewall", "rec_domains"];

    /// Words that an English sentence can hardly do without, and a German one has not.
    const ENGLISH_WORDS: [&str; 22] = [
        "the", "is", "are", "of", "and", "or", "your", "you", "not", "no", "with", "from", "by",
        "to", "that", "this", "it", "has", "for", "until", "be", "on",
    ];
    const GERMAN_WORDS: [&str; 14] = [
        "der", "die", "das", "und", "oder", "ist", "nicht", "kein", "Ihr", "Ihre", "Sie", "mit",
        "von", "bis",
    ];

    fn foreign<'a>(text: &str, words: &[&'a str]) -> Vec<&'a str> {
        let mut spoken = text.split(|c: char| !c.is_alphabetic() && c != '.' && c != '-');
        let spoken: Vec<&str> = spoken.by_ref().map(|word| word.trim_matches('.')).collect();
        let found = words.iter().filter(|word| spoken.contains(*word));
        found.copied().collect()
    }

    #[test]
    fn every_key_is_said_in_both_languages() {
        for ((key, german), (_, english)) in GERMAN.each().into_iter().zip(ENGLISH.each()) {
            assert!(
                !german.trim().is_empty() && !english.trim().is_empty(),
                "{key}"
            );
            assert_eq!(german == english, SAME.contains(&key), "{key}: {german}");
            let (in_german, in_english) = (
                foreign(german, &ENGLISH_WORDS),
                foreign(english, &GERMAN_WORDS),
            );
            assert!(in_german.is_empty(), "{key}: {in_german:?} in {german}");
            assert!(in_english.is_empty(), "{key}: {in_english:?} in {english}");
        }
    }

    #[test]
    fn what_is_looked_for_would_be_found() {
        assert_eq!(
            foreign("a certificate is presented", &ENGLISH_WORDS),
            ["is"]
        );
        assert_eq!(foreign("The site ist hier", &GERMAN_WORDS), ["ist"]);
    }
}
