#!/bin/sh
# sh send.sh ADDRESS sends the newsletter to one subscriber, as a program does that calls sendmail.
set -eu
{
	printf 'From: The shop <news@shop.example.net>\nTo: %s\nSubject: Books\nX-Consent-Scope: newsletter\n' "$1"
	printf 'MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n'
	cat newsletter.html
} | msmtp -C "$PWD/msmtprc" -t
