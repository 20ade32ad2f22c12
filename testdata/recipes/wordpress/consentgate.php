<?php
/* Plugin Name: Mail through consentgate. Goes into wp-content/mu-plugins/. */
add_action('phpmailer_init', function ($phpmailer) {
    $phpmailer->isSMTP();
    $phpmailer->Host = '127.0.0.1';
    $phpmailer->Port = 2525;
    $phpmailer->SMTPAutoTLS = false;

    // WordPress itself sends password resets and notices, which everybody gets. What carries a List-Unsubscribe
    // field is a newsletter.
    foreach ($phpmailer->getCustomHeaders() as $header) {
        if (strcasecmp($header[0], 'List-Unsubscribe') === 0) {
            return;
        }
    }
    $phpmailer->addCustomHeader('X-Consent-Class', 'transactional');
});
