<?php
// php -c php.ini mail.php ADDRESS sends the newsletter to one subscriber by PHP's mail().
$fields = [
    'From' => 'The shop <news@shop.example.net>',
    'X-Consent-Scope' => 'newsletter',
    'MIME-Version' => '1.0',
    'Content-Type' => 'text/html; charset=utf-8',
    'Content-Transfer-Encoding' => '8bit',
];
exit(mail($argv[1], 'Books', file_get_contents('newsletter.html'), $fields) ? 0 : 1);
