<?php
/* Plugin Name: Mail through consentgate. Goes into wp-content/mu-plugins/. */

// All that leaves by wp_mail goes through the gateway.
add_action('phpmailer_init', function ($phpmailer) {
    $phpmailer->isSMTP();
    $phpmailer->Host = '127.0.0.1';
    $phpmailer->Port = 2525;
    $phpmailer->SMTPAutoTLS = false;
});

// It is marketing, which who has unsubscribed does not get, but for the mails below. Header fields are one text or a list.
function consentgate_mark($headers) {
    $mark = 'X-Consent-Class: transactional';
    return is_array($headers) ? array_merge($headers, [$mark]) : ltrim(rtrim((string) $headers, "\r\n") . "\r\n" . $mark);
}

// WordPress: passwords, accounts, the site's own troubles, requests by data protection law.
foreach ([
    'retrieve_password_notification_email', 'password_change_email', 'email_change_email',
    'wp_new_user_notification_email', 'wp_new_user_notification_email_admin', 'wp_password_change_notification_email',
    'recovery_mode_email', 'auto_core_update_email', 'auto_plugin_theme_update_email',
] as $mail) {
    add_filter($mail, function ($mail) {
        if (is_array($mail)) {
            $mail['headers'] = consentgate_mark($mail['headers'] ?? '');
        }
        return $mail;
    }, 999);
}
foreach (['user_request_action_email_headers', 'wp_privacy_personal_data_email_headers'] as $headers) {
    add_filter($headers, 'consentgate_mark', 999);
}

// WooCommerce: orders and accounts. Extensions send coupons and the like by the same filter, under other names.
add_filter('woocommerce_email_headers', function ($headers, $id = '') {
    $known = [
        'new_order', 'cancelled_order', 'failed_order', 'customer_on_hold_order', 'customer_processing_order',
        'customer_completed_order', 'customer_refunded_order', 'customer_partially_refunded_order', 'customer_invoice',
        'customer_note', 'customer_reset_password', 'customer_new_account',
    ];
    return in_array($id, $known, true) ? consentgate_mark($headers) : $headers;
}, 999, 2);
