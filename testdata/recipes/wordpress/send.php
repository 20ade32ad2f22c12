<?php
// php send.php ADDRESS [FILTER [ID]] stands in for wp_mail: it calls what the plugin hooks in, the filter with the
// header fields of the mail that is to be sent, then phpmailer_init. WordPress itself is not here.
require getenv('PHPMAILER') ?: 'vendor/autoload.php';

$hooks = [];
function add_filter($name, $function, $priority = 10, $arguments = 1) {
    global $hooks;
    $hooks[$name][] = [$function, $arguments];
}
function add_action($name, $function) {
    add_filter($name, $function);
}
function apply_filters($name, $value, ...$more) {
    global $hooks;
    foreach ($hooks[$name] ?? [] as [$function, $arguments]) {
        $value = $function(...array_slice([$value, ...$more], 0, $arguments));
    }
    return $value;
}
require 'consentgate.php';

$filter = $argv[2] ?? 'wp_mail';
$headers = '';
if (str_ends_with($filter, '_headers')) {
    $headers = apply_filters($filter, "Content-Type: text/html\r\n", $argv[3] ?? '');
} elseif (isset($hooks[$filter])) {
    $headers = apply_filters($filter, ['to' => $argv[1], 'headers' => ''])['headers'];
}

$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->CharSet = 'UTF-8';
$mail->setFrom('news@shop.example.net', 'The shop', false);
$mail->addAddress($argv[1]);
$mail->Subject = 'Bücher';
$mail->isHTML();
$mail->Encoding = 'quoted-printable';
$mail->Body = file_get_contents('newsletter.html');
foreach (array_filter(is_array($headers) ? $headers : preg_split('/[\r\n]+/', $headers)) as $field) {
    if (stripos($field, 'Content-Type:') !== 0) { // wp_mail reads that one itself
        $mail->addCustomHeader($field);
    }
}
$mail->isMail();
apply_filters('phpmailer_init', $mail);
try {
    $mail->send();
} catch (PHPMailer\PHPMailer\Exception $e) {
    fwrite(STDERR, $mail->ErrorInfo . "\n");
    exit(1);
}
