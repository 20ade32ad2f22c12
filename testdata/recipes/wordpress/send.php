<?php
// php send.php ADDRESS [FIELD: VALUE] stands in for wp_mail: it calls what the plugin hooks in with the PHPMailer
// that is about to send. WordPress itself is not here.
require getenv('PHPMAILER') ?: 'vendor/autoload.php';

$hooks = [];
function add_action($name, $function) {
    global $hooks;
    $hooks[$name][] = $function;
}
require 'consentgate.php';

$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->CharSet = 'UTF-8';
$mail->setFrom('news@shop.example.net', 'The shop', false);
$mail->addAddress($argv[1]);
$mail->Subject = 'Bücher';
$mail->isHTML();
$mail->Encoding = 'quoted-printable';
$mail->Body = file_get_contents('newsletter.html');
if (isset($argv[2])) {
    $mail->addCustomHeader($argv[2]);
}
$mail->isMail();
foreach ($hooks['phpmailer_init'] as $f) {
    $f($mail);
}
try {
    $mail->send();
} catch (PHPMailer\PHPMailer\Exception $e) {
    fwrite(STDERR, $mail->ErrorInfo . "\n");
    exit(1);
}
