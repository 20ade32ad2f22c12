<?php
// php reset.php ADDRESS sends a password reset, which also reaches who has unsubscribed.
require getenv('PHPMAILER') ?: 'vendor/autoload.php';

$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP();
$mail->Host = '127.0.0.1';
$mail->Port = 2525;

$mail->setFrom('news@shop.example.net', 'The shop');
$mail->addAddress($argv[1]);
$mail->addCustomHeader('X-Consent-Class', 'transactional');
$mail->Subject = 'Your password';
$mail->Body = 'https://shop.example.net/reset/1a2b3c';
$mail->send();
