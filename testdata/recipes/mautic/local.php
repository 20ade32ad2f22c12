<?php
$parameters = array(
    'mailer_dsn' => 'smtp://127.0.0.1:2525',
    'messenger_dsn_email' => 'doctrine://default',
);
