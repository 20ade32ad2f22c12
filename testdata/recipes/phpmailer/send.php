<?php
// php send.php ADDRESS sends the newsletter to one subscriber.
require getenv('PHPMAILER') ?: 'vendor/autoload.php';

$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP();
$mail->Host = '127.0.0.1';
$mail->Port = 2525;

$mail->CharSet = 'UTF-8';
$mail->setFrom('news@shop.example.net', 'The shop');
$mail->addAddress($argv[1]);
$mail->addCustomHeader('X-Consent-Scope', 'newsletter');
$mail->Subject = 'Bücher';
$mail->Encoding = 'quoted-printable';
$mail->msgHTML(file_get_contents('newsletter.html'));
$mail->AltBody = file_get_contents('newsletter.txt');
try {
    $mail->send();
} catch (PHPMailer\PHPMailer\Exception $e) {
    fwrite(STDERR, $mail->ErrorInfo . "\n");
    exit(1);
}
